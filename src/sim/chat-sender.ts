// A chat answer in OpenAI's words as vLLM says them: the chunks of a stream, or the whole completion. What is the same
// in every chunk is made once, as this runs for every token of every client.
import { usageOf } from "./answer-usage.ts";
import type { Sender } from "./generate.ts";
import type { Delta, Plan } from "./plan.ts";
import type { Exchange, Simulation } from "./routes.ts";
import type { Sampling } from "./sampling.ts";

export interface ChatSenderOptions {
  readonly simulation: Simulation;
  readonly exchange: Exchange;
  readonly model: string;
  readonly sampling: Sampling;
  readonly plans: readonly Plan[];
  readonly promptTokens: number;
  /** Text of the last message that the answer repeats before it begins; empty: none. */
  readonly echoed: string;
}

export function chatSender(options: ChatSenderOptions): Sender {
  const { simulation, exchange, model, sampling, plans, promptTokens, echoed } = options;
  const id = `chatcmpl-${requestIdOf(exchange)}`;
  const created = Math.floor(Date.now() / 1_000);
  const common = { created, model, system_fingerprint: simulation.fingerprint };
  const envelope = JSON.stringify({ id, object: "chat.completion.chunk", ...common }).slice(0, -1);
  let cachedTokens = 0;
  const made = plans.map(() => 0);
  const usage = () =>
    usageOf(
      promptTokens,
      made.reduce((sum, count) => sum + count, 0),
      cachedTokens,
    );
  const chunk = (choice: number, delta: string, end: string): string => {
    const usageText = sampling.continuousUsage ? `,"usage":${JSON.stringify(usage())}` : "";
    return `${envelope},"choices":[{"index":${choice},"delta":${delta},"logprobs":null,"finish_reason":${end}}]${usageText}}`;
  };
  return {
    cached(tokens) {
      cachedTokens = Math.max(cachedTokens, tokens);
    },
    events(choice, from, to) {
      const plan = plans[choice];
      if (!plan) return [];
      made[choice] = to;
      const events: string[] = [];
      if (from === 0) {
        events.push(chunk(choice, `{"role":"assistant","content":""}`, "null"));
        if (echoed !== "") events.push(chunk(choice, `{"content":${JSON.stringify(echoed)}}`, "null"));
      }
      const ends = to === plan.pieces.length;
      const deltas = mergedDeltas(plan.deltas, from, to).map(deltaJson);
      const last = deltas.length - 1;
      for (const [at, delta] of deltas.entries()) {
        events.push(chunk(choice, delta, ends && at === last ? endJson(plan) : "null"));
      }
      return events;
    },
    lastEvents: () => (sampling.includeUsage ? [`${envelope},"choices":[],"usage":${JSON.stringify(usage())}}`] : []),
    whole() {
      for (const [choice, plan] of plans.entries()) made[choice] = plan.pieces.length;
      const choices = plans.map((plan, index) => ({
        index,
        message: messageOf(plan, echoed),
        logprobs: null,
        finish_reason: plan.finishReason,
        stop_reason: plan.stopReason,
      }));
      return { id, object: "chat.completion", ...common, choices, usage: usage() };
    },
  };
}

/** As vLLM, which takes over the id that a proxy has given. */
export function requestIdOf({ request, body }: Exchange): string {
  const given = body.request_id ?? request.headers.get("x-request-id");
  return typeof given === "string" && /^[\x21-\x7e]{1,200}$/.test(given) ? given : crypto.randomUUID();
}

/** The deltas of some tokens, neighbours of a kind as one. Usually it is one token and one delta. */
function mergedDeltas(deltas: readonly Delta[], from: number, to: number): Delta[] {
  const merged: Delta[] = [];
  for (let at = from; at < to; at++) {
    const delta = deltas[at];
    const before = merged.at(-1);
    if (!delta) continue;
    if (before?.kind === delta.kind && delta.kind !== "tool_call") {
      merged[merged.length - 1] = { ...before, text: before.text + delta.text } as Delta;
    } else merged.push(delta);
  }
  return merged;
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
