// What the simulator can tell of the pictures in a message: format and size from the header, and the prompt of those
// that it drew itself. Called by answer.ts; it decodes no pixels and fetches no URL.
import { type ChatMessage, isRecord } from "./chat-request.ts";

export interface Picture {
  /** Null for a URL, which is not fetched, and for bytes of no known format. */
  readonly header: { readonly format: string; readonly width: number; readonly height: number } | null;
  /** The prompt that the simulator drew it for. */
  readonly drawnFor: string | null;
}

const PICTURES_MAX = 64;
/** Headers and text chunks stand at the beginning; an embedded preview may come before a JPEG's frame. */
const LOOKED_AT_BYTES_MAX = 1_048_576;

/** Of the last user message, in order. */
export function picturesIn(messages: readonly ChatMessage[]): Picture[] {
  const content = messages.findLast(({ role }) => role === "user")?.content;
  if (!Array.isArray(content)) return [];
  return content
    .flatMap((part): unknown[] => {
      if (!isRecord(part) || part.type !== "image_url") return [];
      return [isRecord(part.image_url) ? part.image_url.url : part.image_url];
    })
    .slice(0, PICTURES_MAX)
    .map((url) => pictureAt(typeof url === "string" ? url : ""));
}

function pictureAt(url: string): Picture {
  const comma = url.indexOf(",");
  if (!url.startsWith("data:") || !url.slice(0, comma).endsWith(";base64")) return { header: null, drawnFor: null };
  const base64Max = Math.ceil(LOOKED_AT_BYTES_MAX / 3) * 4;
  const bytes = Buffer.from(url.slice(comma + 1, comma + 1 + base64Max), "base64");
  return { header: readHeader(bytes), drawnFor: readPrompt(bytes) };
}

const textAt = (bytes: Buffer, from: number, to: number): string => bytes.toString("latin1", from, to);

function readHeader(bytes: Buffer): Picture["header"] {
  const header = png(bytes) ?? gif(bytes) ?? jpeg(bytes) ?? webp(bytes);
  return header !== null && header.width > 0 && header.height > 0 ? header : null;
}

/** PNG specification, 11.2.1. */
function png(bytes: Buffer): Picture["header"] {
  if (bytes.length < 24 || textAt(bytes, 0, 8) !== "\x89PNG\r\n\x1a\n") return null;
  return { format: "PNG", width: bytes.readUInt32BE(16), height: bytes.readUInt32BE(20) };
}

function gif(bytes: Buffer): Picture["header"] {
  if (bytes.length < 10 || !/^GIF8[79]a$/.test(textAt(bytes, 0, 6))) return null;
  return { format: "GIF", width: bytes.readUInt16LE(6), height: bytes.readUInt16LE(8) };
}

/** The first start of frame (ITU-T T.81, B.2.2). */
function jpeg(bytes: Buffer): Picture["header"] {
  if (textAt(bytes, 0, 3) !== "\xff\xd8\xff") return null;
  for (let at = 2; at + 9 <= bytes.length && bytes[at] === 0xff; ) {
    const marker = bytes[at + 1] ?? 0;
    const frame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (frame) return { format: "JPEG", width: bytes.readUInt16BE(at + 7), height: bytes.readUInt16BE(at + 5) };
    at += 2 + bytes.readUInt16BE(at + 2);
  }
  return null;
}

/** RFC 9649, 2.5 to 2.7. */
function webp(bytes: Buffer): Picture["header"] {
  if (bytes.length < 30 || textAt(bytes, 0, 4) !== "RIFF" || textAt(bytes, 8, 12) !== "WEBP") return null;
  const size = (width: number, height: number) => ({ format: "WebP", width, height });
  const kind = textAt(bytes, 12, 16);
  if (kind === "VP8X") return size(bytes.readUIntLE(24, 3) + 1, bytes.readUIntLE(27, 3) + 1);
  if (kind === "VP8 ") return size(bytes.readUInt16LE(26) & 0x3fff, bytes.readUInt16LE(28) & 0x3fff);
  const bits = bytes.readUInt32LE(21);
  return kind === "VP8L" ? size((bits & 0x3fff) + 1, ((bits >>> 14) & 0x3fff) + 1) : null;
}

/** The text chunks that draw-image.ts writes; those of other programs are theirs. */
function readPrompt(bytes: Buffer): string | null {
  let [own, prompt]: [boolean, string | null] = [false, null];
  for (let at = 8; png(bytes) !== null && at + 8 <= bytes.length; at += 12 + bytes.readUInt32BE(at)) {
    if (textAt(bytes, at + 4, at + 8) !== "iTXt") continue;
    const [keyword, , , , , ...text] = bytes.toString("utf8", at + 8, at + 8 + bytes.readUInt32BE(at)).split("\0");
    if (keyword === "Software") own = text.join("\0") === "Millrace simulator";
    if (keyword === "Description") prompt = text.join("\0");
  }
  return own ? prompt : null;
}

/** Plain sentences, and `width: 640` for fields that ask for it. */
export function describePictures(pictures: readonly Picture[]): string {
  return pictures
    .map(({ header, drawnFor }, index) => {
      const which = pictures.length > 1 ? `Picture ${index + 1}` : "The picture";
      if (drawnFor !== null) return `${which} shows ${drawnFor.replace(/[.\s]+$/, "")}.`;
      if (header === null) return `${which} is in a format or at a place that the simulator cannot read.`;
      return `${which} is a ${header.format} of ${header.width} × ${header.height} pixels. The simulator reads its header and cannot see what it shows.`;
    })
    .join(" ");
}
