// OpenAI's client as runners get it (`ctx.llm`): its requests become calls of an LlmCaller in this process and never
// touch the network. An actor makes one for each task that asks for it. It must not retry (the caller does), and must
// not load the `openai` package before somebody asks: that costs 20 MB and a tenth of a second of an idle core.
import { createRequire } from "node:module";
import type { OpenAI } from "openai";
import { AppError, asAppError, errorKinds } from "../errors.ts";
import { type LlmEndpoint, type LlmModels, llmEndpoints } from "../models/llm-models.ts";
import { streamOf } from "./answer-body.ts";
import { wantsEvents } from "./encode.ts";
import type { LlmAnswer, LlmCaller, LlmRequest } from "./llm.ts";
import { type FetchMedia, type MediaParts, withMedia } from "./media.ts";

export interface LlmIdentity {
  /** Id of the API key that is counted and limited. */
  readonly keyId: string;
  /** Names the first call; later ones of the same client get a number. */
  readonly requestId: string;
}

export interface ClientOptions {
  readonly caller: LlmCaller;
  readonly models: Pick<LlmModels, "defaultModel">;
  /** How pictures of a conversation are fetched that stand behind a URL. */
  readonly fetchMedia: FetchMedia;
  readonly identity: LlmIdentity;
  /** Ends every call, down to the server's socket. */
  readonly signal: AbortSignal;
  /** A server has begun to answer a call. */
  readonly onAnswered?: () => void;
}

/** Longer than any attempt: its own deadline aborts `signal`. */
const NEVER_MS = 2_147_483_647;
const BASE_URL = "http://llm.invalid/v1";

/**
 * A request may say two things beyond OpenAI's. The field `vllm`, an object: its fields take the place of those of the
 * same name where a vLLM answers, and are left out elsewhere. The header `x-millrace-purpose: vision`: a model named ""
 * is the default for pictures in a chat. The answer's headers say what has answered: `x-millrace-model`, and
 * `x-millrace-provider-kind` (vllm, openai). Errors of the caller come as the client's own (`status`, `code`); what breaks
 * off a stream that has begun is thrown as it is (AppError).
 */
export function openAiClient(options: ClientOptions): OpenAI {
  const { caller, models, fetchMedia, identity, signal } = options;
  const { OpenAI: Client } = createRequire(import.meta.url)("openai") as typeof import("openai");
  let calls = 0;
  const answerOf = async (url: URL, init: RequestInit): Promise<Response> => {
    const endpoint = url.pathname.replace("/v1/", "");
    if (!isEndpoint(endpoint)) return refusal(new AppError("route_not_found", `ctx.llm has no ${endpoint}`));
    calls++;
    const requestId = calls === 1 ? identity.requestId : `${identity.requestId}-${calls}`;
    const ended = init.signal ? AbortSignal.any([signal, init.signal]) : signal;
    // The key's calls fall to one variant of a model, as they do at a gateway. One actor has one GPU: no affinity.
    const { keyId } = identity;
    const call = { endpoint, requestId, keyId, stickyKey: keyId, affinity: "", signal: ended };
    try {
      // What is fetched is bounded by the slots of the runner that asks.
      const asked = await fetched(await readBody(endpoint, init.body), {
        keyId,
        fetchMedia,
        reserve: () => {},
        signal: ended,
      });
      const isVision = new Headers(init.headers).get("x-millrace-purpose") === "vision";
      const model = asked.model || (isVision && models.defaultModel("vision")) || "";
      const answer = await caller.call({ ...call, ...asked, model });
      if (answer.status === 200) options.onAnswered?.();
      return responseOf(answer, requestId);
    } catch (error) {
      const known = asAppError(error);
      if (!known) throw error;
      return refusal(retryableCause(known) ?? known);
    }
  };
  return new Client({
    baseURL: BASE_URL,
    apiKey: "none",
    organization: null,
    project: null,
    maxRetries: 0,
    timeout: NEVER_MS,
    logLevel: "off",
    fetch: (input, init) => answerOf(new URL(input instanceof Request ? input.url : input), init ?? {}),
  });
}

const isEndpoint = (path: string): path is LlmEndpoint => (llmEndpoints as readonly string[]).includes(path);

type Asked = Pick<LlmRequest, "model" | "body" | "stream" | "streamUsage" | "vllm">;

/** What the client wrote: JSON as text, or a form for a request with a file. */
const readBody = async (endpoint: LlmEndpoint, body: RequestInit["body"]): Promise<Asked> =>
  body instanceof FormData ? readForm(body) : readJson(endpoint, String(body));

/** With pictures as data, wherever the request holds a conversation. */
async function fetched(asked: Asked, media: MediaParts): Promise<Asked> {
  if (asked.body.kind !== "json") return asked;
  const value = await withMedia(asked.body.value, media);
  const vllm = asked.vllm && (await withMedia(asked.vllm, media));
  return { ...asked, body: { kind: "json", value }, ...(vllm && { vllm }) };
}

function readJson(endpoint: LlmEndpoint, text: string): Asked {
  const { vllm, ...value } = JSON.parse(text) as Record<string, unknown>;
  const options = value.stream_options as { readonly include_usage?: unknown } | null | undefined;
  return {
    model: String(value.model ?? ""),
    body: { kind: "json", value },
    stream: wantsEvents(endpoint, value),
    streamUsage: options?.include_usage === true,
    ...(vllm !== undefined && { vllm: vllm as Readonly<Record<string, unknown>> }),
  };
}

async function readForm(form: FormData): Promise<Asked> {
  const fields: [string, string][] = [];
  const files: File[] = [];
  form.forEach((value, name) => {
    if (typeof value === "string") fields.push([name, value]);
    else files.push(value);
  });
  const [sent] = files;
  if (!sent) throw new TypeError("a form without a file");
  const file = { name: sent.name, contentType: sent.type, bytes: await sent.bytes() };
  const model = fields.find(([name]) => name === "model")?.[1] ?? "";
  const stream = fields.some(([name, value]) => name === "stream" && value === "true");
  return { model, body: { kind: "form", fields, file }, stream, streamUsage: false };
}

const responseOf = ({ target, status, contentType, body }: LlmAnswer, requestId: string): Response =>
  new Response(streamOf(body), {
    status,
    headers: {
      "content-type": contentType,
      "x-request-id": requestId,
      "x-millrace-model": target.model,
      "x-millrace-provider-kind": target.kind,
    },
  });

/** A picture that could not be had for now: the request is not at fault for that. */
function retryableCause({ code, cause }: AppError): AppError | null {
  const known = code === "invalid_request" ? asAppError(cause) : null;
  return known && errorKinds[known.code].retry === "later" ? known : null;
}

/** In OpenAI's shape; the header tells our codes from those that a model server makes up. */
function refusal({ code, message: text, fields, retryAfterS }: AppError): Response {
  const { status } = errorKinds[code];
  const message = [text, ...fields.map(({ path, message: said }) => `${path} ${said}`)].join(" ");
  const error = { message, type: status < 500 ? "invalid_request_error" : "server_error", param: null, code };
  const headers = { "x-millrace-code": code, ...(retryAfterS !== undefined && { "retry-after": String(retryAfterS) }) };
  return Response.json({ error }, { status: status || 500, headers });
}
