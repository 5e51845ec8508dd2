// Transcription of the simulator: it reads back what it spoke itself, and of other recordings says honestly how long
// they are. Called by the transcription endpoint, which writes text, JSON or subtitles from it.
import { readWave } from "./wave-file.ts";

export interface TranscriptSegment {
  readonly id: number;
  readonly startS: number;
  readonly endS: number;
  readonly text: string;
}

export interface Transcript {
  readonly text: string;
  /** 0 where the format does not tell. */
  readonly durationS: number;
  /** A sentence each, their times by their share of the characters. */
  readonly segments: readonly TranscriptSegment[];
  readonly words: readonly { readonly word: string; readonly startS: number; readonly endS: number }[];
}

/** The same bytes give the same transcript; bytes of no known format are a recording of unknown length. */
export function transcribe(bytes: Uint8Array): Transcript {
  const wave = readWave(bytes);
  const durationS = round(wave?.durationS ?? mpegDurationS(bytes) ?? flacDurationS(bytes) ?? 0);
  const text = wave?.spokenText ?? unheard(durationS, bytes.length);
  const sentences = text.match(/[^.!?。\uff01\uff1f\n]+[.!?。\uff01\uff1f]*\s*/g) ?? [text];
  const words = text.split(/\s+/).filter(Boolean);
  return {
    text,
    durationS,
    segments: spread(
      sentences.map((sentence) => sentence.trim()),
      durationS,
    ).map(({ piece, startS, endS }, id) => ({
      id,
      startS,
      endS,
      text: piece,
    })),
    words: spread(words, durationS).map(({ piece, startS, endS }) => ({ word: piece, startS, endS })),
  };
}

function unheard(durationS: number, sizeBytes: number): string {
  const what = durationS > 0 ? `${durationS.toFixed(1)} seconds` : `${sizeBytes} bytes`;
  return `This is a recording of ${what}. The simulator cannot hear what is said in it.`;
}

function spread(pieces: readonly string[], durationS: number): { piece: string; startS: number; endS: number }[] {
  const total = pieces.reduce((sum, piece) => sum + piece.length, 0) || 1;
  let before = 0;
  return pieces.map((piece) => {
    const startS = round((durationS * before) / total);
    before += piece.length;
    return { piece, startS, endS: round((durationS * before) / total) };
  });
}

const round = (seconds: number): number => Math.round(seconds * 1000) / 1000;

/** Kilobits a second of MPEG-1 layer III by the header's index (ISO/IEC 11172-3, 2.4.2.3). */
const kilobits = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
/** How far into a file the first frame is looked for, behind its tags. */
const MPEG_SCAN_BYTES_MAX = 65_536;

/** By the first frame's rate, which is right where the rate does not vary. */
function mpegDurationS(bytes: Uint8Array): number | null {
  const tagged = bytes[0] === 0x49 && bytes[1] === 0x44 && bytes[2] === 0x33;
  const tagBytes = tagged ? 10 + [6, 7, 8, 9].reduce((size, at) => size * 128 + ((bytes[at] ?? 0) & 0x7f), 0) : 0;
  for (let at = tagBytes; at + 4 < Math.min(bytes.length, tagBytes + MPEG_SCAN_BYTES_MAX); at++) {
    if (bytes[at] !== 0xff || ((bytes[at + 1] ?? 0) & 0xfe) !== 0xfa) continue;
    const rate = kilobits[(bytes[at + 2] ?? 0) >> 4];
    if (rate !== undefined && rate > 0) return ((bytes.length - at) * 8) / (rate * 1000);
  }
  return null;
}

/** Sample rate and count of STREAMINFO (RFC 9639, 8.2). */
function flacDurationS(bytes: Uint8Array): number | null {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (file.length < 26 || file.toString("latin1", 0, 4) !== "fLaC") return null;
  const rateHz = file.readUIntBE(18, 3) >> 4;
  const samples = (file.readUInt8(21) & 0x0f) * 0x1_0000_0000 + file.readUInt32BE(22);
  return rateHz > 0 ? samples / rateHz : null;
}
