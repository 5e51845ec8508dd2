// Time in the engine for answers that are no generated text: embeddings, pictures, sound. They wait for their turn,
// take memory and are counted like any other request, and a client that leaves frees both. What they answer is worked
// out by their own files.
import type { Generation } from "./engine.ts";
import { refuseFull } from "./generate.ts";
import type { Exchange, Simulation } from "./routes.ts";
import { roomFor } from "./sampling.ts";
import { WireError } from "./wire-error.ts";

/** A part of a request that the engine works on by itself, such as one of many inputs. */
export interface Work {
  /** The pieces that are read. */
  readonly prompt: readonly string[];
  /** How many tokens' time the answer takes, beyond reading the prompt; at least 1. */
  readonly steps: number;
}

/**
 * Hands all of it to the engine, which tells of each step (from 1) of each work, or that it gives one up. Throws
 * WireError 400 for what is longer than the model's context, 429 or 503 where too many wait.
 */
export function submitWorks(
  works: readonly Work[],
  salt: string,
  simulation: Simulation,
  onStep: (work: Work, step: number) => void,
  onAborted: () => void,
): { abort(): void } {
  refuseFull(simulation);
  const { engine } = simulation;
  const { maxModelLen } = engine.profile();
  for (const { prompt, steps } of works) roomFor(Math.max(prompt.length, 1), steps, maxModelLen);
  const lora = simulation.models.isAdapter(salt) ? salt : null;
  const generations: Generation[] = works.map((work, index) =>
    engine.submit({
      prompt: work.prompt.length > 0 ? work.prompt : [""],
      output: new Array<string>(work.steps).fill(""),
      salt,
      lora,
      grammar: null,
      priority: 0,
      finishReason: "stop",
      seed: () => `${simulation.seed}/${Bun.hash(work.prompt.join(""))}/${index}`,
      onToken: (made) => onStep(work, made + 1),
      onAborted,
    }),
  );
  return {
    abort() {
      for (const generation of generations) generation.abort();
    },
  };
}

/**
 * Resolves when the engine has done all of it: true, or false where the client has left. Throws as submitWorks, and
 * WireError 500 where the engine gives it up.
 */
export async function workInEngine(
  works: readonly Work[],
  salt: string,
  simulation: Simulation,
  { signal }: Exchange,
): Promise<boolean> {
  const done = Promise.withResolvers<boolean>();
  let open = works.length;
  const givenUp = () => done.reject(new WireError(500, "The engine has given up the request."));
  const onStep = ({ steps }: Work, step: number): void => {
    if (step === steps && --open === 0) done.resolve(true);
  };
  const run = submitWorks(works, salt, simulation, onStep, givenUp);
  const leave = (): void => {
    run.abort();
    done.resolve(false);
  };
  if (signal.aborted) leave();
  signal.addEventListener("abort", leave, { once: true });
  return done.promise.finally(() => signal.removeEventListener("abort", leave));
}

/** Nobody reads it. */
export const leftResponse = (): Response => new Response(null, { status: 499 });
