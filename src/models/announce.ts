// What an actor tells the gateways of itself and its models, in two buckets: `models` (description, kept) and `actors`
// (presence, gone after its TTL). Written by actors, read by catalogue.ts.
import type { Bus } from "../bus/connection.ts";
import { readLast } from "../bus/log.ts";
import { bucketStream, bucketSubject, buckets } from "../bus/subjects.ts";
import type { RunnerDescription } from "../registry/description.ts";
import type { LlmOffers } from "./offers.ts";

export interface ModelEntry {
  readonly v: 1;
  readonly model: RunnerDescription;
}

export interface ActorEntry {
  readonly v: 1;
  readonly id: string;
  readonly gpu: string;
  readonly pid: number;
  readonly models: readonly string[];
  readonly startedAtMs: number;
  /** Tasks that it can run at once, over all its models. Absent, like `busy`, in the entries of older actors. */
  readonly slots?: number;
  /** Tasks that it held when this was said, running or being written down. */
  readonly busy?: number;
  /** The model servers that it reaches. */
  readonly llm?: LlmOffers;
}

/** Puts each model's description, unless the same stands there. Throws `broker_unavailable`. */
export async function announceModels(bus: Bus, models: readonly RunnerDescription[]): Promise<void> {
  await Promise.all(
    models.map(async (model) => {
      const subject = bucketSubject(buckets.models, model.name);
      const value = JSON.stringify({ v: 1, model } satisfies ModelEntry);
      const stored = await readLast(bus, bucketStream(buckets.models), subject, 5_000);
      if (stored?.text !== value) await bus.request(subject, value, { timeoutMs: 5_000 });
    }),
  );
}

export interface Presence {
  readonly subject: string;
  readonly entry: ActorEntry;
}

/** One process: an actor that starts again is another. Supervisor and actor share the environment. */
export const actorIdOf = (gpu: string, pid: number): string => `${process.env.HOSTNAME ?? "local"}-${gpu}-${pid}`;

/** Where an actor's presence is said; an empty value says that it is gone. */
export const presenceSubject = (actorId: string): string => bucketSubject(buckets.actors, actorId);

/** What an actor says of itself; to be published again, with `busy` as it is then, well within the bucket's TTL. */
export function presenceOf(
  actor: { readonly id: string; readonly gpu: string },
  models: readonly RunnerDescription[],
  nowMs: number,
): Presence {
  const slots = models.reduce((sum, model) => sum + model.slots, 0);
  const names = models.map(({ name }) => name);
  const entry = { v: 1, ...actor, pid: process.pid, models: names, startedAtMs: nowMs, slots, busy: 0 } as const;
  return { subject: presenceSubject(actor.id), entry };
}
