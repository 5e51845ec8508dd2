// Time in the engine for answers that are no generated text: embeddings, pictures, sound. They wait for their turn,
// take memory and are counted like any other request, and a client that leaves frees both. What they answer is worked
// out by their own files.
import type { Generation } from "./engine.ts";
import { refuseFull } from "./generate.ts";
import type { Exchange, Simulation } from "./routes.ts";
import { roomFor } from "./sampling.ts";

/** A part of a request that the engine works on by itself, such as one of many inputs. */
export interface Work {
  /** The pieces that are read. */
  readonly prompt: readonly string[];
  /** How many tokens' time the answer takes, beyond reading the prompt; at least 1. */
  readonly steps: number;
}

/**
 * Resolves when the engine has done all of it: true, or false where the client has left. Throws WireError 400 for what
 * is longer than the model's context, 429 where too many wait.
 */
export async function workInEngine(
  works: readonly Work[],
  salt: string,
  simulation: Simulation,
  { signal }: Exchange,
): Promise<boolean> {
  refuseFull(simulation);
  const { engine } = simulation;
  const { maxModelLen } = engine.profile();
  for (const { prompt, steps } of works) roomFor(Math.max(prompt.length, 1), steps, maxModelLen);
  const done = Promise.withResolvers<boolean>();
  let open = works.length;
  const generations: Generation[] = works.map(({ prompt, steps }) =>
    engine.submit({
      prompt: prompt.length > 0 ? prompt : [""],
      output: new Array<string>(steps).fill(""),
      salt,
      priority: 0,
      finishReason: "stop",
      onToken(index) {
        if (index + 1 === steps && --open === 0) done.resolve(true);
      },
    }),
  );
  const leave = (): void => {
    for (const generation of generations) generation.abort();
    done.resolve(false);
  };
  if (signal.aborted) leave();
  signal.addEventListener("abort", leave, { once: true });
  return done.promise.finally(() => signal.removeEventListener("abort", leave));
}

/** Nobody reads it. */
export const leftResponse = (): Response => new Response(null, { status: 499 });
