// A request in the words of the server that is to answer it: its name for the model, the usage of a stream always
// asked for, vLLM's own fields for vLLM alone. Pure; called for every try, as targets differ. A field that a server
// would ignore without a word is refused, never dropped.
import { invalidField } from "../errors.ts";
import type { LlmEndpoint, Target } from "../models/llm-models.ts";
import { withResponseFormat, withStructuredOutputs } from "./constraints.ts";
import type { LlmRequest } from "./llm.ts";

export interface EncodedBody {
  readonly contentType: string;
  readonly bytes: Uint8Array;
}

type Fields = Record<string, unknown>;

const encoder = new TextEncoder();

/** Fields of requests that vLLM alone knows, beside `structured_outputs`. */
const vllmFields: ReadonlySet<string> = new Set([
  "top_k",
  "min_p",
  "repetition_penalty",
  "length_penalty",
  "use_beam_search",
  "stop_token_ids",
  "include_stop_str_in_output",
  "ignore_eos",
  "min_tokens",
  "skip_special_tokens",
  "spaces_between_special_tokens",
  "add_special_tokens",
  "truncate_prompt_tokens",
  "prompt_logprobs",
  "allowed_token_ids",
  "bad_words",
  "add_generation_prompt",
  "continue_final_message",
  "documents",
  "chat_template",
  "chat_template_kwargs",
  "mm_processor_kwargs",
  "media_io_kwargs",
  "session_id",
  "return_token_ids",
  "return_tokens_as_token_ids",
  "return_prompt_text",
  "cache_salt",
  "vllm_xargs",
  "repetition_detection",
  "stream_interval",
  "thinking_token_budget",
  "include_reasoning",
]);

/** Chat knows no `echo` but vLLM's. */
const vllmChatFields: ReadonlySet<string> = new Set([...vllmFields, "echo"]);

/**
 * Fields that no client may set: they name hosts for the server to connect to, carry pickled tensors, or stand for what
 * the operator decides.
 */
const closedFields: Readonly<Record<string, string>> = {
  kv_transfer_params: "is not taken from clients",
  prompt_embeds: "is not taken from clients",
};

/**
 * The body for `target`. Throws `invalid_request`, with the field, where the target cannot do what the request asks:
 * another target may, so a caller goes on to the next and answers this where there is none.
 */
export async function encodeFor(target: Target, request: LlmRequest): Promise<EncodedBody> {
  const { body } = request;
  if (body.kind === "json") {
    const value = jsonFor(target, request, body.value);
    return { contentType: "application/json", bytes: encoder.encode(JSON.stringify(value)) };
  }
  const form = new FormData();
  for (const [name, value] of body.fields) if (!ownFormFields.has(name)) form.append(name, value);
  form.append("model", target.upstreamModel);
  if (request.stream) form.append("stream", "true");
  if (request.stream && target.kind === "vllm") form.append("stream_include_usage", "true");
  form.append(
    "file",
    new File([body.file.bytes as Uint8Array<ArrayBuffer>], body.file.name, { type: body.file.contentType }),
  );
  const response = new Response(form);
  return { contentType: response.headers.get("content-type") ?? "", bytes: await response.bytes() };
}

/** Fields of a form that are said anew: usage is always told at the end of a stream. */
const ownFormFields: ReadonlySet<string> = new Set([
  "model",
  "stream",
  "stream_include_usage",
  "stream_continuous_usage_stats",
]);

/** Whether a JSON request asks for events. Speech has a field of its own for it, and `stream`, which other servers know. */
export function wantsEvents(endpoint: LlmEndpoint, { stream, stream_format: format }: Readonly<Fields>): boolean {
  if (endpoint !== "audio/speech") return stream === true;
  return format === "sse" || (stream === true && format !== "audio");
}

/** Endpoints that make tokens: vLLM's fields and streams belong to them. */
const generates = (endpoint: LlmEndpoint): boolean => endpoint === "chat/completions" || endpoint === "completions";

function jsonFor(target: Target, request: LlmRequest, given: Readonly<Fields>): Fields {
  const { endpoint, stream, vllm } = request;
  const value: Fields = { ...given, ...(target.kind === "vllm" && vllm), model: target.upstreamModel };
  refuseClosed(value);
  if (endpoint === "audio/speech") return withStreamFormat(value, stream);
  if (!generates(endpoint)) return value;
  if (stream) value.stream_options = { ...(value.stream_options as object), include_usage: true };
  return target.kind === "vllm" ? forVllm(value, request) : forOpenAi(value, endpoint);
}

function refuseClosed(value: Fields): void {
  for (const name in closedFields) {
    if ((value[name] ?? null) !== null) throw invalidField(`/${name}`, closedFields[name] ?? "");
  }
  // Lower goes first: a client would overtake all others. 0 is where everybody stands.
  if ((value.priority ?? 0) !== 0) throw invalidField("/priority", "is not the client's to choose");
  delete value.priority;
  // Each try is named by its own header: two clients' names for their calls must not meet in a server.
  delete value.request_id;
}

/** In OpenAI's words, which other servers know too. */
function withStreamFormat({ stream: _, ...value }: Fields, asEvents: boolean): Fields {
  return asEvents ? { ...value, stream_format: "sse" } : value;
}

/** Each key has a cache apart. */
function forVllm(value: Fields, { keyId }: LlmRequest): Fields {
  return { ...withStructuredOutputs(value), cache_salt: saltOf(keyId, value.cache_salt) };
}

/**
 * What parts the prefix cache of one key from another's, so that nobody can tell by the time of an answer what others
 * have asked. A client's own salt parts it further and never joins two keys: what is sent is a digest of both.
 */
export function saltOf(keyId: string, given: unknown): string {
  if ((given ?? "") !== "" && typeof given !== "string") throw invalidField("/cache_salt", "must be a string");
  return Bun.CryptoHasher.hash("sha256", JSON.stringify([keyId, given ?? ""]), "base64url");
}

function forOpenAi(value: Fields, endpoint: LlmEndpoint): Fields {
  const foreign = endpoint === "chat/completions" ? vllmChatFields : vllmFields;
  for (const name in value) {
    if (!foreign.has(name)) continue;
    if ((value[name] ?? null) !== null) throw invalidField(`/${name}`, "is vLLM's, and this model has another server");
    delete value[name];
  }
  return withResponseFormat(value);
}
