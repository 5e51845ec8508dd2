// Identifiers. A task id is 26 characters of Crockford's base32 in lower case (130 bits, the top two are zero), like a
// ULID: safe as a NATS token, a file name and a URL segment. Random ones begin with the time, so they sort by age;
// derived ones are a hash, so that the same client request always meets the same subject.
import { randomBytes } from "node:crypto";

const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";
const TASK_ID = /^[0-7][0-9abcdefghjkmnpqrstvwxyz]{25}$/;

export const isTaskId = (text: string): boolean => TASK_ID.test(text);

/** 16 bytes as 26 base32 characters. */
function base32(bytes: Uint8Array): string {
  let text = "";
  let buffer = 0;
  let bits = 2; // 128 bits need 130: two zero bits lead, as in a ULID
  for (let i = 0; i < bytes.length; i++) {
    buffer = (buffer << 8) | (bytes[i] ?? 0);
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += ALPHABET[(buffer >>> bits) & 31];
    }
    buffer &= 31; // fewer than five bits are left
  }
  return text;
}

/** A fresh task id: 48 bits of `nowMs`, 80 random bits. */
export function randomTaskId(nowMs: number): string {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(nowMs, 0, 6);
  return base32(bytes);
}

/** The task id of a client's request: SHA-256 over both parts, cut to 128 bits. The NUL keeps the parts apart. */
export function derivedTaskId(keyId: string, clientRequestId: string): string {
  return base32(Bun.CryptoHasher.hash("sha256", `${keyId}\0${clientRequestId}`).subarray(0, 16));
}

/** 122 random bits as 32 hexadecimal characters: a fence or a nonce. */
export const randomToken = (): string => crypto.randomUUID().replaceAll("-", "");

/** The partition of a task: FNV-1a of its id. Changing this function orphans stored tasks. */
export function partitionOf(taskId: string, partitions: number): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < taskId.length; i++) hash = Math.imul(hash ^ taskId.charCodeAt(i), 0x01000193);
  return (hash >>> 0) % partitions;
}
