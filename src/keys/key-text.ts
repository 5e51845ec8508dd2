// The text of a stored API key: `mr_<env>_<id>_<secret><checksum>`. Made by the `keys` command, read by the check of
// every request that presents one. It holds no state, and what it returns of a secret is its digest.
import { randomBytes } from "node:crypto";

export const keyEnvironments = ["dev", "prod"] as const;
export type KeyEnvironment = (typeof keyEnvironments)[number];

/** Crockford's base32 in lower case: read aloud and typed without doubt. */
const ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";
const SECRET_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID_CHARS = 12; // 60 bits
const SECRET_CHARS = 32; // 190 bits: a plain SHA-256 keeps it, there is nothing to guess
const CHECKSUM_CHARS = 6; // 32 bits in base62

const KEY = /^mr_(dev|prod)_([0-9a-hjkmnp-tv-z]{12})_[0-9A-Za-z]{38}$/;

export interface NewKeyText {
  /** The key itself, to be shown once and kept nowhere. */
  readonly text: string;
  /** SHA-256 of the text, in hexadecimal: what is stored. */
  readonly digest: string;
}

/** A fresh id, `mr_` and 12 characters. The names of API_KEYS cannot begin so. */
export const newKeyId = (): string => `mr_${randomText(ID_ALPHABET, ID_CHARS)}`;

/** A fresh secret for the key `id`. */
export function newKeyText(env: KeyEnvironment, id: string): NewKeyText {
  const body = `mr_${env}_${id.slice("mr_".length)}_${randomText(SECRET_ALPHABET, SECRET_CHARS)}`;
  const text = body + checksum(body);
  return { text, digest: digestOf(text).toString("hex") };
}

/** The id that `text` names, or null where it has not the form of a stored key. Its checksum is not looked at. */
export function keyIdIn(text: string): string | null {
  const id = KEY.exec(text)?.[2];
  return id === undefined ? null : `mr_${id}`;
}

/** Whether `text` began as a stored key and was mistyped or cut off since. Tells nothing of which keys exist. */
export function isDamagedKey(text: string): boolean {
  if (!/^mr_(dev|prod)_/.test(text)) return false;
  return !KEY.test(text) || checksum(text.slice(0, -CHECKSUM_CHARS)) !== text.slice(-CHECKSUM_CHARS);
}

export const digestOf = (text: string): Buffer => Buffer.from(Bun.CryptoHasher.hash("sha256", text));

/** CRC-32 in base62, as in the tokens of GitHub: a scanner knows a real key from a string that looks like one. */
function checksum(body: string): string {
  let rest = Bun.hash.crc32(body);
  let text = "";
  for (let i = 0; i < CHECKSUM_CHARS; i++) {
    text = SECRET_ALPHABET.charAt(rest % SECRET_ALPHABET.length) + text;
    rest = Math.floor(rest / SECRET_ALPHABET.length);
  }
  return text;
}

/** Every character equally likely: bytes above the largest multiple of the alphabet's length are thrown away. */
function randomText(alphabet: string, chars: number): string {
  const limit = 256 - (256 % alphabet.length);
  let text = "";
  while (text.length < chars) {
    for (const byte of randomBytes(chars)) {
      if (byte < limit && text.length < chars) text += alphabet.charAt(byte % alphabet.length);
    }
  }
  return text;
}
