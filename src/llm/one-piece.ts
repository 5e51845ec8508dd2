// The whole answer of a server that knows no stream, as the events of a stream of one piece, so that a client that asked
// for one gets one from any server. media-answer.ts calls it. Pure.
import type { LlmEndpoint } from "../models/llm-models.ts";
import { eventBytes, PICTURE_DONE, transcriptDelta, transcriptEnd } from "./media-events.ts";
import { objectIn, otherThanAsked, type TakenWhole, unreadable } from "./whole-answer.ts";

type Fields = Readonly<Record<string, unknown>>;

/** Throws `upstream_failed` for what holds no transcript and no picture. */
export function onePiece(endpoint: LlmEndpoint, whole: Pick<TakenWhole, "bytes" | "isJson">): Uint8Array {
  const text = Buffer.from(whole.bytes.buffer, whole.bytes.byteOffset, whole.bytes.byteLength).toString();
  if (endpoint === "audio/transcriptions") return transcript(whole.isJson ? objectIn(text) : { text: text.trimEnd() });
  if (endpoint === "images/generations") return pictures(objectIn(text));
  throw otherThanAsked(); // speech as JSON is nothing that anybody knows
}

function transcript({ text, usage }: Fields): Uint8Array {
  if (typeof text !== "string") throw unreadable();
  const end = eventBytes(transcriptEnd(text, usage));
  return text === "" ? end : Buffer.concat([eventBytes(transcriptDelta(text)), end]);
}

const noTokens = {
  input_tokens: 0,
  output_tokens: 0,
  total_tokens: 0,
  input_tokens_details: { text_tokens: 0, image_tokens: 0 },
};

/** An event a picture; the last one tells what all of them took, so that the sum is right. */
function pictures({ created, data, size, quality, background, output_format, usage }: Fields): Uint8Array {
  if (!Array.isArray(data) || data.length === 0) throw unreadable();
  const events = (data as readonly (Fields | null)[]).map((picture, index) => {
    // An address is no part of a stream, and might be one inside.
    if (typeof picture?.b64_json !== "string") throw otherThanAsked();
    const told = { size, quality, background, output_format };
    const event = {
      type: PICTURE_DONE,
      b64_json: picture.b64_json,
      created_at: created,
      ...told,
      usage: index === data.length - 1 ? (usage ?? noTokens) : noTokens,
    };
    return eventBytes(event, PICTURE_DONE);
  });
  return Buffer.concat(events);
}
