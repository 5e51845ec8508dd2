// Bytes that a client sends inside of JSON. Pictures and sounds are read with it; it never repairs a text, as what was
// damaged on the way would become a damaged file.

/** Characters of padded base64 for so many bytes. */
export const base64Length = (sizeBytes: number): number => 4 * Math.ceil(sizeBytes / 3);

/** The bytes of padded base64 of the standard alphabet in one line; null for any other text. */
export function base64Bytes(text: string): Uint8Array | null {
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  const bytes = Buffer.from(text, "base64"); // skips what it does not know, so that the length tells
  return bytes.byteLength !== (text.length / 4) * 3 - padding || /[-_]/.test(text) ? null : bytes;
}
