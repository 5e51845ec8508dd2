// Runs the planned choices of one request through the engine and answers with what its sender makes of the tokens: a
// stream of events, or one JSON object at the end. A client that leaves aborts every choice of it.
import type { Generation } from "./engine.ts";
import { createEventStream, eventStreamHeaders } from "./event-stream.ts";
import type { Plan } from "./plan.ts";
import type { Exchange, Simulation } from "./routes.ts";
import type { Sampling } from "./sampling.ts";
import { WireError } from "./wire-error.ts";

/** Puts an answer into the words of its endpoint. */
export interface Sender {
  /** The events, as JSON, of the tokens `from` up to, not including, `to` of a choice. */
  events(choice: number, from: number, to: number): readonly string[];
  /** What follows the last token of the last choice: the usage, where it was asked for. */
  lastEvents(): readonly string[];
  /** All of it, once every token is there. */
  whole(): unknown;
  /** Called at a choice's first token, before anything else. */
  cached(tokens: number): void;
}

export interface GenerateOptions {
  readonly simulation: Simulation;
  readonly exchange: Exchange;
  readonly sampling: Sampling;
  /** Each is for `n` plans that follow each other. */
  readonly prompts: readonly (readonly string[])[];
  readonly plans: readonly Plan[];
  readonly salt: string;
  readonly sender: Sender;
}

/** Throws WireError 429 where too many wait. */
export async function generate(options: GenerateOptions): Promise<Response> {
  const { simulation, exchange, sampling, plans, sender } = options;
  if (simulation.engine.isFull()) throw new WireError(429, "Too many requests are waiting.");
  const made = plans.map(() => 0);
  const sent = plans.map(() => 0);
  const done = Promise.withResolvers<void>();
  let open = plans.length;
  let generations: readonly Generation[] = [];
  const abort = (): void => {
    for (const generation of generations) generation.abort();
    done.resolve();
  };
  const flush = (choice: number): void => {
    const from = sent[choice] ?? 0;
    const to = made[choice] ?? 0;
    if (from === to) return;
    sent[choice] = to;
    for (const event of sender.events(choice, from, to)) stream.send(event);
    if (to < (plans[choice]?.pieces.length ?? 0) || --open > 0) return;
    for (const event of sender.lastEvents()) stream.send(event);
    stream.finish();
  };
  const stream = createEventStream({
    onReady() {
      for (const choice of made.keys()) flush(choice);
    },
    onLeft: abort,
  });
  const onToken = (choice: number, index: number): void => {
    made[choice] = index + 1;
    if (index === 0) sender.cached(generations[choice]?.cachedTokens() ?? 0);
    if (sampling.stream) {
      if (stream.ready()) flush(choice);
    } else if (index + 1 === plans[choice]?.pieces.length && --open === 0) done.resolve();
  };
  generations = submit(options, onToken);
  if (exchange.signal.aborted) abort();
  else exchange.signal.addEventListener("abort", abort, { once: true });
  if (sampling.stream) return new Response(stream.body, { headers: eventStreamHeaders });
  await done.promise;
  exchange.signal.removeEventListener("abort", abort);
  // Nobody reads the answer of a client that has left.
  return open > 0 ? new Response(null, { status: 499 }) : Response.json(sender.whole());
}

function submit(options: GenerateOptions, onToken: (choice: number, index: number) => void): readonly Generation[] {
  const { simulation, sampling, prompts, plans, salt } = options;
  return plans.map(({ pieces, finishReason }, choice) =>
    simulation.engine.submit({
      prompt: prompts[Math.floor(choice / sampling.n)] ?? [],
      output: pieces,
      salt: `${salt}\u0000${sampling.cacheSalt}`,
      priority: sampling.priority,
      finishReason: finishReason === "length" ? "length" : "stop",
      onToken: (index) => onToken(choice, index),
    }),
  );
}
