// A chat answer in OpenAI's words as vLLM says them: the chunks of a stream, or the whole completion. What is the same
// in every chunk is made once, as this runs for every token of every client.
import { type AnswerUsage, countUsage } from "./answer-usage.ts";
import type { Sender } from "./generate.ts";
import { chatLogprobs, promptLogprobs } from "./logprobs.ts";
import type { Delta, Plan } from "./plan.ts";
import type { Sampling } from "./sampling.ts";

export interface ChatSenderOptions {
  readonly id: string;
  readonly model: string;
  readonly fingerprint: string;
  readonly sampling: Sampling;
  readonly plans: readonly Plan[];
  readonly prompt: readonly string[];
  /** Text of the last message that the answer repeats before it begins; empty: none. */
  readonly echoed: string;
  /** Alternatives to each token; null: no log probabilities. */
  readonly topLogprobs: number | null;
  /** The same of the prompt's tokens. */
  readonly topPromptLogprobs: number | null;
}

export function chatSender(options: ChatSenderOptions): Sender {
  const { plans, echoed, sampling, topLogprobs } = options;
  const usage = countUsage(options.prompt.length, 1, sampling.n);
  const chunk = chunkMaker(options, usage);
  const logprobsOf = (plan: Plan, from: number, to: number) =>
    topLogprobs === null ? null : chatLogprobs(plan, from, to, topLogprobs);
  return {
    cached: usage.cached,
    events(choice, from, to) {
      const plan = plans[choice];
      if (!plan) return [];
      usage.sent(choice, to);
      const events: string[] = [];
      if (from === 0) {
        events.push(chunk.of(choice, `{"role":"assistant","content":""}`, "null", "null"));
        if (echoed !== "") events.push(chunk.of(choice, `{"content":${JSON.stringify(echoed)}}`, "null", "null"));
      }
      for (let at = from; at < to; ) {
        const next = mergedDelta(plan.deltas, at, to);
        const logprobs = topLogprobs === null ? "null" : JSON.stringify(logprobsOf(plan, at, next.to));
        const end = next.to === plan.pieces.length ? endJson(plan) : "null";
        events.push(chunk.of(choice, deltaJson(next.delta), logprobs, end));
        at = next.to;
      }
      return events;
    },
    lastEvents: () => (sampling.includeUsage ? [chunk.last()] : []),
    whole() {
      const choices = plans.map((plan, index) => {
        usage.sent(index, plan.pieces.length);
        return {
          index,
          message: messageOf(plan, echoed),
          logprobs: logprobsOf(plan, 0, plan.pieces.length),
          finish_reason: plan.finishReason,
          stop_reason: plan.stopReason,
        };
      });
      const { id, object, ...common } = chunk.envelope;
      const ofPrompt = options.topPromptLogprobs !== null && {
        prompt_logprobs: promptLogprobs(options.prompt, options.topPromptLogprobs),
      };
      const counted = JSON.parse(usage.json()) as unknown;
      return { id, object: "chat.completion", ...common, choices, usage: counted, ...ofPrompt };
    },
  };
}

/** Chunks around their constant part. */
function chunkMaker({ id, model, fingerprint, sampling }: ChatSenderOptions, usage: AnswerUsage) {
  const created = Math.floor(Date.now() / 1_000);
  const envelope = { id, object: "chat.completion.chunk", created, model, system_fingerprint: fingerprint };
  const start = `${JSON.stringify(envelope).slice(0, -1)},"choices":[`;
  return {
    envelope,
    of(choice: number, delta: string, logprobs: string, end: string): string {
      const tail = sampling.continuousUsage ? `],"usage":${usage.json()}}` : "]}";
      return `${start}{"index":${choice},"delta":${delta},"logprobs":${logprobs},"finish_reason":${end}}${tail}`;
    },
    last: (): string => `${start}],"usage":${usage.json()}}`,
  };
}

/** The delta at `from` and the ones behind it that can be said with it. Usually it is one. */
function mergedDelta(deltas: readonly Delta[], from: number, to: number): { delta: Delta; to: number } {
  const first = deltas[from] ?? { kind: "content", text: "" };
  if (to === from + 1 || first.kind === "tool_call") return { delta: first, to: from + 1 };
  let text = first.text;
  let end = from + 1;
  for (let next = deltas[end]; end < to && next?.kind === first.kind; next = deltas[end]) {
    text += next.text;
    end++;
  }
  return { delta: { ...first, text }, to: end };
}

function deltaJson(delta: Delta): string {
  switch (delta.kind) {
    case "content":
      return `{"content":${JSON.stringify(delta.text)}}`;
    case "reasoning":
      return `{"reasoning":${JSON.stringify(delta.text)}}`;
    case "tool_call": {
      const { index, id, name } = delta;
      return JSON.stringify({ tool_calls: [{ index, id, type: "function", function: { name, arguments: "" } }] });
    }
    case "tool_arguments":
      return `{"tool_calls":[{"index":${delta.index},"function":{"arguments":${JSON.stringify(delta.text)}}}]}`;
  }
}

const endJson = ({ finishReason, stopReason }: Plan): string =>
  `"${finishReason}","stop_reason":${JSON.stringify(stopReason)}`;

/** The message of a whole answer; without `tool_calls` where there are none, as vLLM. */
function messageOf({ deltas }: Plan, echoed: string) {
  let reasoning = "";
  let content = "";
  const calls: { id: string; type: "function"; function: { name: string; arguments: string } }[] = [];
  for (const delta of deltas) {
    if (delta.kind === "content") content += delta.text;
    else if (delta.kind === "reasoning") reasoning += delta.text;
    else if (delta.kind === "tool_call") {
      calls.push({ id: delta.id, type: "function", function: { name: delta.name, arguments: "" } });
    } else if (delta.kind === "tool_arguments") {
      const call = calls[delta.index];
      if (call) call.function.arguments += delta.text;
    }
  }
  const said = echoed + content;
  return {
    role: "assistant",
    content: said === "" && calls.length > 0 ? null : said,
    refusal: null,
    reasoning: reasoning === "" ? null : reasoning,
    ...(calls.length > 0 && { tool_calls: calls }),
  };
}
