// Format and size of a picture from its first bytes, so that what declares too much is refused before any decoder sees
// it. Called by image.ts alone. It must never trust a length it reads: every access is bounded by the bytes at hand.

export interface ImageHeader {
  readonly format: "png" | "jpeg" | "webp";
  /** Pixels as stored, before EXIF orientation; 1 or more. */
  readonly width: number;
  readonly height: number;
}

/** What the header declares, or null for bytes that are no PNG, JPEG or WebP or have no whole header. */
export function readImageHeader(bytes: Uint8Array): ImageHeader | null {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const header = pngHeader(view) ?? jpegHeader(view) ?? webpHeader(view);
  return header !== null && header.width > 0 && header.height > 0 ? header : null;
}

const textAt = (bytes: Buffer, from: number, to: number): string => bytes.toString("latin1", from, to);

/** The signature and IHDR, which comes first (PNG specification, 5.2 and 11.2.1). */
function pngHeader(bytes: Buffer): ImageHeader | null {
  if (bytes.length < 24 || textAt(bytes, 0, 8) !== "\x89PNG\r\n\x1a\n" || textAt(bytes, 12, 16) !== "IHDR") return null;
  return { format: "png", width: bytes.readUInt32BE(16), height: bytes.readUInt32BE(20) };
}

/** The first start of frame (ITU-T T.81, B.1.1.3 and B.2.2). A height of 0, to be told later, is taken as no header. */
function jpegHeader(bytes: Buffer): ImageHeader | null {
  if (textAt(bytes, 0, 3) !== "\xff\xd8\xff") return null;
  let at = 2;
  while (at + 9 <= bytes.length && bytes[at] === 0xff) {
    const marker = bytes[at + 1] ?? 0;
    if (marker === 0xff) {
      at += 1; // fill byte
    } else if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8)) {
      at += 2; // no parameters
    } else if (marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc) {
      return { format: "jpeg", width: bytes.readUInt16BE(at + 7), height: bytes.readUInt16BE(at + 5) };
    } else {
      at += 2 + bytes.readUInt16BE(at + 2);
    }
  }
  return null;
}

/** The first chunk: extended (the canvas), lossless or lossy (RFC 9649, 2.5 to 2.7). */
function webpHeader(bytes: Buffer): ImageHeader | null {
  if (bytes.length < 30 || textAt(bytes, 0, 4) !== "RIFF" || textAt(bytes, 8, 12) !== "WEBP") return null;
  const size = (width: number, height: number): ImageHeader => ({ format: "webp", width, height });
  switch (textAt(bytes, 12, 16)) {
    case "VP8X":
      return size(bytes.readUIntLE(24, 3) + 1, bytes.readUIntLE(27, 3) + 1);
    case "VP8L": {
      const bits = bytes.readUInt32LE(21);
      return size((bits & 0x3fff) + 1, ((bits >>> 14) & 0x3fff) + 1);
    }
    case "VP8 ":
      return size(bytes.readUInt16LE(26) & 0x3fff, bytes.readUInt16LE(28) & 0x3fff);
    default:
      return null;
  }
}
