// The sound a task brings: its schema, and its bytes once they are known to be a sound. Runners call it through
// `ctx.audio`. It reads no further than the first bytes of a file and decodes nothing: that is the model server's.
import { type Static, type TProperties, Type } from "@sinclair/typebox";
import { AppError, asAppError } from "../errors.ts";
import type { FetchedBytes } from "../net/fetch-input.ts";
import { base64Bytes, base64Length } from "./base64.ts";
import { fileIdField } from "./image.ts";

/** OpenAI's limit, about 25 minutes of MP3. */
const BYTES_MAX = 25 * 1024 * 1024;

const places = {
  audio_url: Type.Optional(
    Type.String({ format: "public-url", maxLength: 2_048, description: "Address of the sound, http or https" }),
  ),
  audio_base64: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: base64Length(BYTES_MAX),
      contentEncoding: "base64",
      description: "The sound's bytes in padded base64, without a data: prefix or line breaks",
    }),
  ),
  file_id: Type.Optional(fileIdField),
};

/**
 * The schema of a sound: exactly one of `audio_url` (http or https, public), `audio_base64` (standard alphabet, padded)
 * and `file_id` (an upload of the same key), beside the runner's own `fields`.
 */
export const audioInput = <Fields extends TProperties>(fields: Fields) =>
  Type.Object(
    { ...places, ...fields },
    {
      oneOf: Object.keys(places).map((name) => ({ required: [name] })),
      description: "A sound of at most 25 MiB (WAV, MP3, FLAC, Ogg, WebM, MP4)",
    },
  );

export type AudioInput = Static<ReturnType<typeof audioInput<Record<never, never>>>>;

export interface Sound {
  /** The file as it came. */
  readonly bytes: Uint8Array;
  /** As told by its first bytes, whatever anybody declared. */
  readonly contentType: string;
  /** A file name with the ending that model servers know the format by. */
  readonly name: string;
}

export interface ReadAudioOptions {
  readonly fetch: (url: string) => Promise<FetchedBytes>;
  readonly readFile: (fileId: string, sizeBytesMax: number) => Promise<Uint8Array>;
}

/** Throws `audio_too_large`, `audio_unreadable` and what `fetch` and `readFile` throw. */
export async function readAudio(input: AudioInput, options: ReadAudioOptions): Promise<Sound> {
  const bytes = await bytesOf(input, options);
  if (bytes.byteLength > BYTES_MAX) throw tooLarge();
  const format = formatOf(bytes);
  if (!format) throw new AppError("audio_unreadable", "The file is not WAV, MP3, FLAC, Ogg, WebM or MP4");
  return { bytes, contentType: `audio/${format.type}`, name: `audio.${format.ending}` };
}

async function bytesOf(input: AudioInput, { fetch, readFile }: ReadAudioOptions): Promise<Uint8Array> {
  if (input.audio_base64 !== undefined) {
    if (input.audio_base64.length > base64Length(BYTES_MAX)) throw tooLarge();
    const bytes = base64Bytes(input.audio_base64);
    if (bytes) return bytes;
    throw new AppError("audio_unreadable", "audio_base64 is not padded base64 of the standard alphabet in one line");
  }
  if (input.audio_url !== undefined) return (await fetch(input.audio_url)).bytes;
  if (input.file_id === undefined) {
    throw new AppError("invalid_input", "A sound needs audio_url, audio_base64 or file_id");
  }
  try {
    return await readFile(input.file_id, BYTES_MAX);
  } catch (error) {
    throw asAppError(error)?.code === "payload_too_large" ? tooLarge() : error;
  }
}

const tooLarge = (): AppError => new AppError("audio_too_large", `The sound has more than ${BYTES_MAX} bytes`);

/** What a file begins with: text at an offset. MP3 without tags begins with eleven set bits. */
const formats: readonly {
  readonly at: number;
  readonly text: string;
  readonly type: string;
  readonly ending: string;
}[] = [
  { at: 8, text: "WAVE", type: "wav", ending: "wav" },
  { at: 0, text: "fLaC", type: "flac", ending: "flac" },
  { at: 0, text: "OggS", type: "ogg", ending: "ogg" },
  { at: 0, text: "ID3", type: "mpeg", ending: "mp3" },
  { at: 0, text: "\x1aE\xdf\xa3", type: "webm", ending: "webm" },
  { at: 4, text: "ftyp", type: "mp4", ending: "m4a" },
];

function formatOf(bytes: Uint8Array): { readonly type: string; readonly ending: string } | null {
  const head = Buffer.from(bytes.subarray(0, 16)).toString("latin1");
  const found = formats.find(({ at, text }) => head.startsWith(text, at));
  if (found) return found;
  const isFrame = bytes[0] === 0xff && ((bytes[1] ?? 0) & 0xe0) === 0xe0 && ((bytes[1] ?? 0) & 0x06) !== 0;
  return isFrame ? { type: "mpeg", ending: "mp3" } : null;
}
