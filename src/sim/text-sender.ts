// A text answer of `/v1/completions` in OpenAI's words as vLLM says them: the chunks of a stream, or the whole. The
// counterpart of chat-sender.ts.
import { countUsage } from "./answer-usage.ts";
import type { Sender } from "./generate.ts";
import { echoLogprobs, joinedLogprobs, promptLogprobs, textLogprobs } from "./logprobs.ts";
import type { Plan } from "./plan.ts";
import type { Sampling } from "./sampling.ts";

export interface TextSenderOptions {
  readonly id: string;
  readonly model: string;
  readonly fingerprint: string;
  readonly sampling: Sampling;
  /** `n` for each prompt. */
  readonly plans: readonly Plan[];
  readonly prompts: readonly (readonly string[])[];
  /** The prompts come before their answers. */
  readonly echo: boolean;
  /** And nothing after them: the one token that was made is not told. */
  readonly promptOnly: boolean;
  /** Alternatives to each token; null: no log probabilities. */
  readonly topLogprobs: number | null;
  /** The same of the prompts' tokens. */
  readonly topPromptLogprobs: number | null;
}

export function textSender(options: TextSenderOptions): Sender {
  const { id, model, fingerprint, sampling, plans, prompts, echo, promptOnly, topLogprobs } = options;
  const promptTokens = prompts.reduce((sum, prompt) => sum + prompt.length, 0);
  const usage = countUsage(promptTokens, prompts.length, sampling.n);
  const created = Math.floor(Date.now() / 1_000);
  const envelope = { id, object: "text_completion", created, model, system_fingerprint: fingerprint };
  const start = `${JSON.stringify(envelope).slice(0, -1)},"choices":[`;
  const promptOf = (choice: number): readonly string[] => prompts[Math.floor(choice / sampling.n)] ?? [];
  const echoOf = (choice: number): string => (echo ? promptOf(choice).join("") : "");
  const textOf = (plan: Plan, from: number, to: number): string =>
    promptOnly
      ? ""
      : plan.deltas
          .slice(from, to)
          .map((delta) => delta.text)
          .join("");
  /** Where the tokens of the next event begin in the text of their choice. */
  const offsets = plans.map((_, choice) => echoOf(choice).length);
  const logprobsOf = (choice: number, plan: Plan, from: number, to: number) => {
    if (topLogprobs === null) return null;
    const offset = offsets[choice] ?? 0;
    const logprobs = textLogprobs(plan, from, promptOnly ? from : to, topLogprobs, offset);
    offsets[choice] = logprobs.tokens.reduce((end, token) => end + token.length, offset);
    return echo && from === 0 ? joinedLogprobs(echoLogprobs(promptOf(choice), topLogprobs), logprobs) : logprobs;
  };
  const ofPrompt = (choice: number) =>
    options.topPromptLogprobs !== null && {
      prompt_logprobs: promptLogprobs(promptOf(choice), options.topPromptLogprobs),
    };
  return {
    cached: usage.cached,
    events(choice, from, to) {
      const plan = plans[choice];
      if (!plan) return [];
      usage.sent(choice, to);
      const text = (from === 0 ? echoOf(choice) : "") + textOf(plan, from, to);
      const ends = to === plan.pieces.length;
      const end = ends ? `"${plan.finishReason}","stop_reason":${JSON.stringify(plan.stopReason)}` : "null";
      const logprobs = topLogprobs === null ? "null" : JSON.stringify(logprobsOf(choice, plan, from, to));
      const tail = sampling.continuousUsage ? `],"usage":${usage.json()}}` : "]}";
      const body = `"index":${choice},"text":${JSON.stringify(text)},"logprobs":${logprobs},"finish_reason":${end}`;
      return [`${start}{${body}}${tail}`];
    },
    lastEvents: () => (sampling.includeUsage ? [`${start}],"usage":${usage.json()}}`] : []),
    whole() {
      const choices = plans.map((plan, index) => {
        usage.sent(index, plan.pieces.length);
        return {
          index,
          text: echoOf(index) + textOf(plan, 0, plan.pieces.length),
          logprobs: logprobsOf(index, plan, 0, plan.pieces.length),
          finish_reason: plan.finishReason,
          stop_reason: plan.stopReason,
          ...ofPrompt(index),
        };
      });
      return { ...envelope, choices, usage: JSON.parse(usage.json()) as unknown };
    },
  };
}
