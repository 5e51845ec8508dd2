// A model's answer that comes whole, and a server's refusal of a request, as OpenAI's SDKs read them. llm.ts and
// llm-stream.ts call it. Nothing of a server but its answer may reach a client: no address, no headers, no status that
// is not the request's fault.
import { bytesOf, textOf } from "../llm/answer-body.ts";
import type { LlmAnswer } from "../llm/llm.ts";
import type { OpenAiError } from "./openai-error.ts";
import { type KeyedCall, reply, replyJson } from "./route.ts";
import { quotaHeaders } from "./usage.ts";

/** A server's words are passed on so far. */
const MESSAGE_CHARS_MAX = 2_000;
const NAME = /^[A-Za-z0-9_.:-]{1,64}$/;
/** Of a server inside: a URL, or an address with its port. */
const ADDRESS = /\bhttps?:\/\/[^\s"'<>)]+|\b(?:localhost|(?:\d{1,3}\.){3}\d{1,3}):\d{2,5}\b/gi;
const MEDIA_TYPE = /^[a-z]{1,16}\/[a-z0-9.+-]{1,64}(; ?[a-z]{1,16}=[a-z0-9-]{1,32})?$/i;

/** An answer in JSON. */
export async function jsonReply(call: KeyedCall, answer: LlmAnswer): Promise<Response> {
  if (answer.status !== 200) return refusalOf(call, answer);
  return replyJson(call, 200, await textOf(answer.body), quotaHeaders(answer.quota));
}

/** A server's word for the type of its answer, where it is one. */
export const mediaTypeOf = (contentType: string): string =>
  MEDIA_TYPE.test(contentType) ? contentType : "application/octet-stream";

/** An answer of the server's own type: a transcript as text or JSON. */
export async function mediaReply(call: KeyedCall, answer: LlmAnswer): Promise<Response> {
  if (answer.status !== 200) return refusalOf(call, answer);
  const bytes = await bytesOf(answer.body);
  return reply(call, 200, mediaTypeOf(answer.contentType), bytes, quotaHeaders(answer.quota));
}

/**
 * Embeddings as they were asked for. Not every server knows `encoding_format`: an SDK that asked for base64 would read
 * a list of numbers as an empty vector, without a word.
 */
export async function embeddingsReply(call: KeyedCall, answer: LlmAnswer, asBase64: boolean): Promise<Response> {
  if (answer.status !== 200) return refusalOf(call, answer);
  const json = await textOf(answer.body);
  return replyJson(call, 200, asBase64 && hasNumbers(json) ? inBase64(json) : json, quotaHeaders(answer.quota));
}

/** Whether the first embedding is a list. Asked of the text: parsing megabytes would hold up everybody else. */
const hasNumbers = (json: string): boolean => /"embedding"\s*:\s*(\S)/.exec(json)?.[1] === "[";

/** Float32, little-endian as every machine that this runs on; order and all else as they were. */
function inBase64(json: string): string {
  const body = JSON.parse(json) as { data: { embedding: unknown }[] };
  const data = body.data.map((item) => {
    if (!Array.isArray(item.embedding)) return item;
    const bytes = Buffer.from(Float32Array.from(item.embedding, Number).buffer);
    return { ...item, embedding: bytes.toString("base64") };
  });
  return JSON.stringify({ ...body, data });
}

/** A server's 4xx, in OpenAI's shape. */
export async function refusalOf(call: KeyedCall, answer: LlmAnswer): Promise<Response> {
  const error = shownRefusal(answer.status, await textOf(answer.body));
  return replyJson(call, answer.status, JSON.stringify({ error }), { "x-should-retry": "false" });
}

/** What a client is told of a server's refusal. `json` is whatever the server sent; vLLM's `code` is a number. */
export function shownRefusal(status: number, json: string): OpenAiError {
  const given = errorIn(json);
  const text = typeof given.message === "string" ? given.message : "The model server refused the request.";
  const message = text.replaceAll(ADDRESS, "(address)").slice(0, MESSAGE_CHARS_MAX); // a cut address is one, too
  const param = typeof given.param === "string" && NAME.test(given.param) ? given.param : null;
  const code = typeof given.code === "string" && NAME.test(given.code) ? given.code : codeOf(status, message);
  return { message, type: "invalid_request_error", param, code };
}

function errorIn(json: string): { readonly message?: unknown; readonly param?: unknown; readonly code?: unknown } {
  try {
    const body = JSON.parse(json) as {
      readonly error?: unknown;
      readonly detail?: unknown;
      readonly message?: unknown;
    };
    if (typeof body.error === "object" && body.error !== null) return body.error;
    return { message: body.error ?? body.message ?? body.detail };
  } catch {
    return {};
  }
}

/** OpenAI's name for the one refusal that clients act upon: they cut the conversation and try again. */
const codeOf = (status: number, message: string): string => {
  if (/maximum (context|model) length|context length of/i.test(message)) return "context_length_exceeded";
  return status === 404 ? "not_found" : status === 413 ? "payload_too_large" : "invalid_request";
};
