// The answers of a model server that are sound, transcripts or pictures: a stream of events in OpenAI's words where one
// was asked for, whatever the server sends; sound else as it is made. upstream.ts opens them. A server that knows no
// stream is no failure: its whole answer becomes a stream of one piece.
import type { LlmEndpoint } from "../models/llm-models.ts";
import type { HeldRoom } from "./answer-room.ts";
import type { EncodedBody } from "./encode.ts";
import type { Exchange } from "./exchange.ts";
import { mediaReader } from "./media-events.ts";
import { onePiece } from "./one-piece.ts";
import type { ServerResponse } from "./post.ts";
import { openSound } from "./sound-answer.ts";
import { openStream } from "./stream-answer.ts";
import type { TryAnswer } from "./try.ts";
import { isJsonType, openWhole, otherThanAsked, takeWhole, wholeAnswer } from "./whole-answer.ts";

export interface MediaRequest {
  readonly endpoint: LlmEndpoint;
  readonly stream: boolean;
  readonly streamUsage: boolean;
  readonly promptEstimate: number;
  readonly body: EncodedBody;
}

/** A picture of 4096 pixels a side without compression is 64 MB; as servers send it, less than half. */
const EVENT_BYTES_MAX = 32 * 1024 * 1024;
/** A longer request is not parsed for the number of its pictures. */
const PARSED_BYTES_MAX = 256 * 1024;

/** Throws what openStream and openWhole throw. */
export async function openMedia(
  response: ServerResponse,
  exchange: Exchange,
  request: MediaRequest,
  room: HeldRoom,
): Promise<TryAnswer> {
  const { endpoint, stream } = request;
  const type = response.headers.get("content-type") ?? "";
  try {
    const isEvents = /^text\/event-stream\b/i.test(type);
    if (isEvents && stream) return await openEvents(response, exchange, request, room);
    if (endpoint === "audio/speech" && !isJsonType(type)) {
      if (/^text\//i.test(type)) throw otherThanAsked();
      return await openSound(response, exchange, request.promptEstimate, stream);
    }
    if (!stream) return await openWhole(response, exchange, endpoint, room);
    const taken = await takeWhole(response, exchange, endpoint, room);
    const bytes = onePiece(endpoint, taken);
    const { usage } = taken;
    return wholeAnswer({ status: 200, contentType: "text/event-stream", bytes, usage, onGone: () => room.release() });
  } catch (error) {
    room.release();
    throw error;
  }
}

function openEvents(
  response: ServerResponse,
  exchange: Exchange,
  request: MediaRequest,
  room: HeldRoom,
): Promise<TryAnswer> {
  const { endpoint, promptEstimate, body } = request;
  const pictures = endpoint === "images/generations" ? picturesAsked(body) : 0;
  // Between two pictures lies as much work as in an answer that is no stream.
  const silenceMs = pictures > 0 ? exchange.limits.totalMs : exchange.limits.betweenTokensMs;
  const reader = mediaReader(endpoint, promptEstimate, pictures);
  return openStream(response, exchange, request, {
    reader,
    large: { eventBytesMax: EVENT_BYTES_MAX, silenceMs, room },
  });
}

function picturesAsked({ bytes }: EncodedBody): number {
  if (bytes.length > PARSED_BYTES_MAX) return 1;
  const { n } = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString()) as { n?: unknown };
  return typeof n === "number" ? n : 1;
}
