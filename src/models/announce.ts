// What an actor tells the gateways of itself and its models, in two buckets: `models` (description, kept) and `actors`
// (presence, gone after its TTL). Written by actors, read by catalogue.ts.
import type { Bus } from "../bus/connection.ts";
import { readLast } from "../bus/log.ts";
import { bucketStream, bucketSubject, buckets } from "../bus/subjects.ts";
import type { RunnerDescription } from "../registry/description.ts";

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

/** Subject and value of an actor's presence; to be published again well within the bucket's TTL. */
export function presenceEntry(
  actor: { readonly id: string; readonly gpu: string },
  models: readonly string[],
  nowMs: number,
): { readonly subject: string; readonly value: string } {
  const entry: ActorEntry = { v: 1, ...actor, pid: process.pid, models, startedAtMs: nowMs };
  return { subject: bucketSubject(buckets.actors, actor.id), value: JSON.stringify(entry) };
}
