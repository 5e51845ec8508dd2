// The routes that answer from a language model, in the shape of the OpenAI API, so that its SDKs work unchanged: a body
// is read and checked, pictures are fetched, the call is made, its answer sent on. Who answers is the caller's to
// decide (src/llm/llm.ts); nothing here knows of a server.
import { AppError } from "../errors.ts";
import { wantsEvents } from "../llm/encode.ts";
import type { LlmAnswer, LlmBody, LlmCaller, LlmRequest } from "../llm/llm.ts";
import { type FetchMedia, withMedia } from "../llm/media.ts";
import type { Log } from "../log.ts";
import type { LlmEndpoint } from "../models/llm-models.ts";
import { bodyMsMax, readJson, smallBytesMax } from "./body.ts";
import type { Reservation } from "./body-room.ts";
import type { Hold, Holds } from "./holds.ts";
import { affinityOf, stickyKeyOf } from "./llm-affinity.ts";
import { embeddingsReply, jsonReply, mediaReply } from "./llm-answer.ts";
import { readForm } from "./llm-form.ts";
import { llmOperations } from "./llm-operations.ts";
import { checkedBody, type Fields, type JsonEndpoint, modelOf } from "./llm-request.ts";
import {
  type LlmStreamLimits,
  llmStream,
  llmStreamLimits,
  mediaEvents,
  STOPPING,
  type StreamForm,
  soundBytes,
  tokenEvents,
} from "./llm-stream.ts";
import type { KeyedCall, KeyedRoute } from "./route.ts";

export interface LlmRouteParts {
  readonly llm: LlmCaller;
  readonly holds: Holds;
  readonly fetchMedia: FetchMedia;
  readonly log: Log;
}

/** Of a long conversation with tools; and token ids of many texts at once, which take the loop 0.1 s. */
const KEYS_MAX = 50_000;
const ITEMS_MAX = 1_000_000;

/** `limits` are given by tests alone. */
export function llmRoutes(parts: LlmRouteParts, limits: LlmStreamLimits = llmStreamLimits): readonly KeyedRoute[] {
  const json = (endpoint: JsonEndpoint, answerOf: AnswerOf = jsonReply) => ({
    ...route,
    path: `/v1/${endpoint}`,
    operation: llmOperations[endpoint],
    handle: (call: KeyedCall) => callModel(parts, limits, endpoint, call, answerOf),
  });
  return [
    json("chat/completions"),
    json("completions"),
    json("embeddings", (call, answer, body) => embeddingsReply(call, answer, body.encoding_format === "base64")),
    json("images/generations"),
    json("audio/speech"),
    {
      ...route,
      path: "/v1/audio/transcriptions",
      operation: llmOperations["audio/transcriptions"],
      handle: (call) => transcribe(parts, limits, call),
    },
  ];
}

const route = { access: "key", method: "POST", errorFormat: "openai" } as const;

type AnswerOf = (call: KeyedCall, answer: LlmAnswer, body: Fields) => Promise<Response>;

async function callModel(
  parts: LlmRouteParts,
  limits: LlmStreamLimits,
  endpoint: JsonEndpoint,
  call: KeyedCall,
  answerOf: AnswerOf,
): Promise<Response> {
  const fields = checkedBody(endpoint, await readJson(call, bodyMsMax, KEYS_MAX, ITEMS_MAX));
  const { keyId } = call.owner;
  const room = call.room.reserve(keyId);
  const stream = wantsEvents(endpoint, fields);
  return answered(parts, limits, call, room, {
    endpoint,
    fields,
    stream,
    async bodyOf(signal) {
      room.add(largeBytesOf(call));
      const { fetchMedia } = parts;
      return { kind: "json", value: await withMedia(fields, { keyId, fetchMedia, reserve: room.add, signal }) };
    },
    form: formOf(endpoint, stream),
    answerOf: (answer) => answerOf(call, answer, fields),
  });
}

/** Speech is sent as it is made, whatever its form; null: the answer is sent as a whole. */
function formOf(endpoint: JsonEndpoint, stream: boolean): StreamForm | null {
  if (endpoint === "audio/speech") return stream ? mediaEvents : soundBytes;
  if (!stream) return null;
  return endpoint === "images/generations" ? mediaEvents : tokenEvents;
}

async function transcribe(parts: LlmRouteParts, limits: LlmStreamLimits, call: KeyedCall): Promise<Response> {
  const room = call.room.reserve(call.owner.keyId);
  try {
    const { model, stream, body } = await readForm(call.request, room.add);
    return await answered(parts, limits, call, room, {
      endpoint: "audio/transcriptions",
      fields: { model },
      stream,
      bodyOf: async () => body,
      form: stream ? mediaEvents : null,
      answerOf: (answer) => mediaReply(call, answer),
    });
  } catch (error) {
    room.release();
    throw error;
  }
}

/** A request that has been checked. */
interface Asked {
  readonly endpoint: LlmEndpoint;
  readonly fields: Fields;
  readonly stream: boolean;
  readonly bodyOf: (signal: AbortSignal) => Promise<LlmBody>;
  /** Null: `answerOf` makes the response of the whole answer. */
  readonly form: StreamForm | null;
  readonly answerOf: (answer: LlmAnswer) => Promise<Response>;
}

/** Calls the model. `room` is given back when an answer begins, or there is none. */
async function answered(
  { llm, holds, log }: LlmRouteParts,
  limits: LlmStreamLimits,
  call: KeyedCall,
  room: Reservation,
  asked: Asked,
): Promise<Response> {
  const hold = holds.open(call, "call");
  let isStreaming = false;
  try {
    const calling = llm.call(requestOf(call, asked, await asked.bodyOf(hold.signal), hold));
    calling.then(room.release, room.release);
    if (asked.form === null) return await asked.answerOf(await calling);
    const response = await llmStream(call, calling, hold, log, limits, asked.form);
    isStreaming = response.status === 200;
    return response;
  } catch (error) {
    room.release();
    throw stopped(call, hold) ?? error;
  } finally {
    if (!isStreaming) hold.release();
  }
}

/** Of a body that was announced as a large one: it is in memory until an answer begins. */
const largeBytesOf = ({ request }: KeyedCall): number => {
  const declared = Number(request.headers.get("content-length") ?? 0);
  return declared > smallBytesMax ? declared : 0;
};

/** What is said to a client that is still there when the call is ended: this gateway stops. */
const stopped = ({ request }: KeyedCall, { signal }: Hold): AppError | null =>
  signal.aborted && !request.signal.aborted ? new AppError("not_ready", STOPPING, { retryAfterS: 1 }) : null;

const requestOf = (
  { request, requestId, owner }: KeyedCall,
  { endpoint, fields, stream }: Asked,
  body: LlmBody,
  { signal }: Hold,
): LlmRequest => {
  const options = fields.stream_options as { readonly include_usage?: unknown } | null | undefined;
  return {
    endpoint,
    model: modelOf(fields.model),
    body,
    stream,
    streamUsage: options?.include_usage === true,
    requestId,
    keyId: owner.keyId,
    stickyKey: stickyKeyOf(owner.keyId, fields),
    affinity: affinityOf(owner.keyId, request.headers, fields),
    signal,
  };
};
