// The form of a transcription: a few fields and one sound, gathered in memory within limits, since the sound goes on to
// a model server in one piece. llm.ts calls it; multipart.ts does the parsing.
import { invalidField } from "../errors.ts";
import type { LlmBody } from "../llm/llm.ts";
import { modelOf } from "./llm-request.ts";
import { type IncomingFile, receiveUpload } from "./multipart.ts";

/** As OpenAI has it: some half an hour of compressed speech. */
const SOUND_BYTES_MAX = 25_000_000;
/** 25 MB in this time is 1.7 Mbit/s. A client that drips bytes holds its room no longer. */
const UPLOAD_MS_MAX = 120_000;
const FILENAME_CHARS_MAX = 255;

type Form = Extract<LlmBody, { readonly kind: "form" }>;

/**
 * The form of this request. `reserve` is asked for room before bytes are kept, and throws where there is none. Throws
 * `unsupported_media_type`, `payload_too_large`, `request_timeout`, `invalid_request`, and what `reserve` throws.
 */
export async function readForm(
  request: Request,
  reserve: (sizeBytes: number) => void,
): Promise<{ model: string | undefined; stream: boolean; body: Form }> {
  const { taken: bytes, details } = await receiveUpload(
    request,
    SOUND_BYTES_MAX,
    (file) => gathered(file, reserve),
    (form) => form,
    async () => {}, // what was gathered is garbage
    UPLOAD_MS_MAX,
  );
  const { entries, filename, contentType } = details;
  const model = entries.find(([name]) => name === "model")?.[1];
  modelOf(model);
  if (entries.filter(([name]) => name === "model").length > 1) throw invalidField("/model", "stands there twice");
  const stream = streamOf(entries);
  if (bytes.byteLength === 0) throw invalidField("/file", "is empty");
  const file = { name: safeName(filename), contentType: safeType(contentType), bytes };
  return { model, stream, body: { kind: "form", fields: entries, file } };
}

/** Python's clients write `True`. */
function streamOf(entries: readonly (readonly [name: string, value: string])[]): boolean {
  const given = entries.filter(([name]) => name === "stream").map(([, value]) => value.toLowerCase());
  if (given.some((value) => value !== "true" && value !== "false"))
    throw invalidField("/stream", "must be true or false");
  return given.includes("true");
}

async function gathered({ content }: IncomingFile, reserve: (sizeBytes: number) => void): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of content) {
    reserve(chunk.byteLength);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Servers tell the format by the name's ending: that alone must survive. */
const safeName = (filename: string): string =>
  filename.replaceAll(/[^A-Za-z0-9._-]/g, "_").slice(-FILENAME_CHARS_MAX) || "audio";

const safeType = (contentType: string): string =>
  /^(audio|video)\/[a-z0-9.+-]{1,64}$/i.test(contentType) ? contentType : "application/octet-stream";
