// For tests of the routes of language models alone: a caller that is written by hand, and the answers it gives. What a
// model server does, and how it is reached, is tested on the real stack.
import type { LlmAnswer, LlmCaller, LlmRequest } from "../llm/llm.ts";
import type { Target } from "../models/llm-models.ts";

const target: Target = {
  model: "chat",
  variant: "main",
  provider: "local",
  kind: "vllm",
  upstreamModel: "org/chat-7b",
  perGpu: true,
};

export interface GivenAnswer {
  readonly status?: number;
  readonly contentType?: string;
}

/** An answer with this body. */
export const answerOf = (
  body: string | ReadableStream<Uint8Array>,
  { status = 200, contentType = "application/json" }: GivenAnswer = {},
): LlmAnswer => {
  const stream = typeof body === "string" ? new Blob([body]).stream() : body;
  return {
    target,
    status,
    contentType,
    body: { getReader: () => stream.getReader(), cancel: () => stream.cancel() },
    ended: new Promise(() => {}),
  };
};

/** Answers every call with `answer`, and remembers what was asked. */
export function callerOf(answer: (request: LlmRequest) => LlmAnswer | Promise<LlmAnswer>) {
  const requests: LlmRequest[] = [];
  const caller: LlmCaller = {
    async call(request) {
      requests.push(request);
      return answer(request);
    },
  };
  return { caller, requests };
}
