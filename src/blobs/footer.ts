// The last 512 bytes of an object's file in the folder store: its size, SHA-256 and content type as one line of JSON.
// Written by folder.ts when the content is known, read by it before anything else; it never trusts what it reads.
import { type BlobStat, checkContentType } from "./blobs.ts";

/** The longest line is 380 bytes: a content type of 127 quotes, each escaped. */
export const FOOTER_BYTES = 512;

type Footer = Omit<BlobStat, "key">;

export function encodeFooter(footer: Footer): Buffer {
  const { sizeBytes, sha256, contentType } = footer;
  const line = JSON.stringify({ millrace: 1, sizeBytes, sha256, contentType });
  return Buffer.from(`${line.padEnd(FOOTER_BYTES - 1)}\n`);
}

/** Null for anything that `encodeFooter` did not write. */
export function parseFooter(bytes: Uint8Array): Footer | null {
  try {
    const { millrace, sizeBytes, sha256, contentType } = JSON.parse(new TextDecoder().decode(bytes));
    if (millrace !== 1 || !Number.isSafeInteger(sizeBytes)) return null;
    if (typeof sha256 !== "string" || !/^[0-9a-f]{64}$/.test(sha256) || typeof contentType !== "string") return null;
    checkContentType(contentType);
    return { sizeBytes, sha256, contentType };
  } catch {
    return null;
  }
}
