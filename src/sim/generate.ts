// Runs the planned choices of one request through the engine and answers with what its sender makes of the tokens: a
// stream of events, or one JSON object at the end. A client that leaves aborts every choice of it.
import { isRecord } from "./chat-request.ts";
import type { Generation } from "./engine.ts";
import { createEventStream, eventStreamHeaders } from "./event-stream.ts";
import { jsonResponse } from "./json-response.ts";
import { cutShort, type Plan } from "./plan.ts";
import type { Exchange, JsonBody, Simulation } from "./routes.ts";
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
  /** Begins with the model's name: its prefixes are its own. */
  readonly salt: string;
  readonly sender: Sender;
}

/** Throws WireError 429 or 503 where too many wait: asked before an answer is composed, which costs most of all. */
export function refuseFull({ engine }: Simulation): void {
  if (engine.isFull()) throw new WireError(engine.profile().fullStatus, "Too many requests are waiting.");
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
  const onToken = (choice: number, index: number): void => {
    made[choice] = index + 1;
    if (stream.ready()) flush(choice);
  };
  const run = start(options, onToken, () => {
    stream.finish(false); // without the event that ends it: it is not whole
    end();
  });
  onAbort(exchange.signal, run.abort);
  return new Response(stream.body, { headers: eventStreamHeaders });
}

async function whole(options: GenerateOptions): Promise<Response> {
  const { exchange, plans, sender } = options;
  const ended = Promise.withResolvers<boolean>();
  let open = plans.length;
  const onToken = (choice: number, index: number): void => {
    if (index + 1 === plans[choice]?.pieces.length && --open === 0) ended.resolve(true);
  };
  const run = start(options, onToken, () => ended.resolve(false));
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

/** What the answer must follow, as a name for it; null where it is free. */
function grammarOf({ response_format: format, structured_outputs: structured, tools, tool_choice: choice }: JsonBody) {
  const forced = choice === "required" || isRecord(choice) ? [tools, choice] : null;
  const formed = isRecord(format) && format.type !== "text" ? format : null;
  if (forced === null && formed === null && !isRecord(structured)) return null;
  return String(Bun.hash(JSON.stringify([forced, formed, structured])));
}

/**
 * Hands all choices to the engine; they share its steps. Text that it gives up ends with a last, empty token;
 * `onGivenUp` is told of what cannot end so.
 */
function start(
  options: GenerateOptions,
  onToken: (choice: number, index: number) => void,
  onGivenUp: () => void,
): { abort(): void } {
  const { simulation, exchange, sampling, prompts, plans, salt, sender } = options;
  const model = salt.split("\u0000", 1)[0] ?? "";
  const lora = simulation.models.isAdapter(model) ? model : null;
  const grammar = simulation.engine.profile().compileUs === 0 ? null : grammarOf(exchange.body);
  const generations: Generation[] = plans.map((plan, choice) => {
    const prompt = prompts[Math.floor(choice / sampling.n)] ?? [];
    let made = 0;
    return simulation.engine.submit({
      prompt,
      output: plan.pieces,
      salt: `${salt}\u0000${sampling.cacheSalt}`,
      lora,
      grammar,
      priority: sampling.priority,
      finishReason: plan.finishReason === "length" ? "length" : "stop",
      seed: () => `${simulation.seed}/${sampling.seed ?? Bun.hash(prompt.join(""))}/${choice}`,
      onToken(index) {
        if (index === 0) sender.cached(choice, generations[choice]?.cachedTokens() ?? 0);
        made = index + 1;
        onToken(choice, index);
      },
      onAborted() {
        if (sender.sentinel === false) return onGivenUp();
        cutShort(plan, made);
        onToken(choice, made);
      },
    });
  });
  return {
    abort() {
      for (const generation of generations) generation.abort();
    },
  };
}
