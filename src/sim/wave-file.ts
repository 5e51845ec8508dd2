// WAV files of the simulator: 16-bit mono PCM, with the spoken text in an INFO list (RIFF, Multimedia Programming
// Interface 1.0), and the reading of any WAV's length and text. Every length in a stranger's file is bounded by its bytes.

/** OpenAI's raw PCM is 24 kHz, 16 bit, mono. */
export const SAMPLE_RATE_HZ = 24_000;
const SOFTWARE = "Millrace simulator";

export interface WaveFile {
  readonly durationS: number;
  /** What the simulator said in it; null in files of others. */
  readonly spokenText: string | null;
}

/** A whole file: format, text, samples (little-endian, two bytes each). */
export function writeWave(samples: Uint8Array, spokenText: string): Uint8Array {
  const format = Buffer.alloc(16);
  format.writeUInt16LE(1, 0);
  format.writeUInt16LE(1, 2);
  format.writeUInt32LE(SAMPLE_RATE_HZ, 4);
  format.writeUInt32LE(SAMPLE_RATE_HZ * 2, 8);
  format.writeUInt16LE(2, 12);
  format.writeUInt16LE(16, 14);
  const info = Buffer.concat([
    Buffer.from("INFO"),
    ...chunk("ISFT", Buffer.from(`${SOFTWARE}\0`)),
    ...chunk("ICMT", Buffer.from(`${spokenText}\0`)),
  ]);
  const body = [Buffer.from("WAVE"), ...chunk("fmt ", format), ...chunk("LIST", info), ...chunk("data", samples)];
  return Buffer.concat(chunk("RIFF", Buffer.concat(body)));
}

/** Null for what is no WAV. */
export function readWave(bytes: Uint8Array): WaveFile | null {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (file.length < 12 || file.toString("latin1", 0, 4) !== "RIFF" || file.toString("latin1", 8, 12) !== "WAVE")
    return null;
  let [bytesPerSecond, dataBytes] = [0, 0];
  const info = new Map<string, string>();
  for (const { id, data } of chunksOf(file, 12)) {
    if (id === "fmt " && data.length >= 16) bytesPerSecond = data.readUInt32LE(8);
    if (id === "data") dataBytes += data.length;
    if (id !== "LIST" || data.toString("latin1", 0, 4) !== "INFO") continue;
    for (const entry of chunksOf(data, 4)) info.set(entry.id, entry.data.toString("utf8").replace(/\0.*$/s, ""));
  }
  const own = info.get("ISFT") === SOFTWARE;
  return {
    durationS: bytesPerSecond > 0 ? dataBytes / bytesPerSecond : 0,
    spokenText: own ? (info.get("ICMT") ?? "") : null,
  };
}

/** The chunks that follow; one that claims more than is there (a streamed file says 2³²−1) ends with the file. */
function* chunksOf(file: Buffer, from: number): Generator<{ id: string; data: Buffer }> {
  let at = from;
  while (at + 8 <= file.length) {
    const size = file.readUInt32LE(at + 4);
    yield {
      id: file.toString("latin1", at, at + 4),
      data: file.subarray(at + 8, Math.min(file.length, at + 8 + size)),
    };
    at += 8 + size + (size % 2);
  }
}

/** Header, data and the pad byte of an odd length. */
function chunk(id: string, data: Uint8Array): Uint8Array[] {
  const header = Buffer.alloc(8);
  header.write(id, 0, "latin1");
  header.writeUInt32LE(data.length, 4);
  return data.length % 2 === 0 ? [header, data] : [header, data, Buffer.alloc(1)];
}
