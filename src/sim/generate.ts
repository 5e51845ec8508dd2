// Runs the planned choices of one request through the engine and answers with what its sender makes of the tokens: a
// stream of events, or one JSON object at the end. A client that leaves aborts every choice of it.
import type { Generation } from "./engine.ts";
import { createEventStream, eventStreamHeaders } from "./event-stream.ts";
import { jsonResponse } from "./json-response.ts";
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
  /** False: the last event is the end, and no `[DONE]` follows. */
  readonly sentinel?: boolean;
  /** Called at a choice's first token, before anything else. */
  cached(choice: number, tokens: number): void;
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

/** Throws WireError 429 where too many wait: asked before an answer is composed, which costs more than all the rest. */
export function refuseFull({ engine }: Simulation): void {
  if (engine.isFull()) throw new WireError(429, "Too many requests are waiting.");
}

/** Salt for a prompt that is computed whole, as for its log probabilities, and finds nothing in the cache. */
export const uncached = (model: string): string => `${model}\u0000${crypto.randomUUID()}`;

export function generate(options: GenerateOptions): Response | Promise<Response> {
  return options.sampling.stream ? streamed(options) : whole(options);
}

/** Each token goes out as it is made; those that the client had no room for go out together once it has. */
function streamed(options: GenerateOptions): Response {
  const { exchange, plans, sender } = options;
  const end = exchange.holdOpen();
  const made = plans.map(() => 0);
  const sent = plans.map(() => 0);
  let open = plans.length;
  const flush = (choice: number): void => {
    const from = sent[choice] ?? 0;
    const to = made[choice] ?? 0;
    if (from === to) return;
    sent[choice] = to;
    for (const event of sender.events(choice, from, to)) stream.send(event);
    if (to < (plans[choice]?.pieces.length ?? 0) || --open > 0) return;
    for (const event of sender.lastEvents()) stream.send(event);
    stream.finish(sender.sentinel ?? true);
    end();
  };
  const stream = createEventStream({
    onReady() {
      for (const choice of made.keys()) flush(choice);
    },
    onLeft() {
      run.abort();
      end(); // of a client that left the visit has heard before
    },
  });
  const run = start(options, (choice, index) => {
    made[choice] = index + 1;
    if (stream.ready()) flush(choice);
  });
  onAbort(exchange.signal, run.abort);
  return new Response(stream.body, { headers: eventStreamHeaders });
}

async function whole(options: GenerateOptions): Promise<Response> {
  const { exchange, plans, sender } = options;
  const ended = Promise.withResolvers<boolean>();
  let open = plans.length;
  const run = start(options, (choice, index) => {
    if (index + 1 === plans[choice]?.pieces.length && --open === 0) ended.resolve(true);
  });
  onAbort(exchange.signal, () => {
    run.abort();
    ended.resolve(false);
  });
  // Nobody reads the answer to a client that has left.
  return (await ended.promise) ? jsonResponse(sender.whole()) : new Response(null, { status: 499 });
}

function onAbort(signal: AbortSignal, call: () => void): void {
  if (signal.aborted) call();
  else signal.addEventListener("abort", call, { once: true });
}

/** Hands all choices to the engine; they share its steps. */
function start(options: GenerateOptions, onToken: (choice: number, index: number) => void): { abort(): void } {
  const { simulation, sampling, prompts, plans, salt, sender } = options;
  const generations: Generation[] = plans.map(({ pieces, finishReason }, choice) =>
    simulation.engine.submit({
      prompt: prompts[Math.floor(choice / sampling.n)] ?? [],
      output: pieces,
      salt: `${salt}\u0000${sampling.cacheSalt}`,
      priority: sampling.priority,
      finishReason: finishReason === "length" ? "length" : "stop",
      onToken(index) {
        if (index === 0) sender.cached(choice, generations[choice]?.cachedTokens() ?? 0);
        onToken(choice, index);
      },
    }),
  );
  return {
    abort() {
      for (const generation of generations) generation.abort();
    },
  };
}
