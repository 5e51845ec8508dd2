// The models and actors that a gateway knows: a copy of the two buckets, kept by following them. Lookups are in memory;
// schemas are compiled once per version. Runner code is never imported here, only its description read.
import type { Bus } from "../bus/connection.ts";
import { follow } from "../bus/follow.ts";
import { anyInBucket, bucketStream, bucketSubject, buckets } from "../bus/subjects.ts";
import type { Clock } from "../clock.ts";
import { type FieldProblem, messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { type Check, compileSchema, type Formats } from "../registry/schema.ts";
import type { ActorEntry, ModelEntry } from "./announce.ts";
import type { ModelDescription, Models } from "./models.ts";
import { isOffers } from "./offers.ts";

/** An actor that has not renewed its presence for so long is gone; it renews every 3 s. */
const PRESENCE_MS_MAX = 10_000;

interface KnownModel {
  readonly entry: ModelEntry["model"];
  readonly createdS: number;
  /** Null where the schema cannot be compiled here: a task of it cannot be checked, so none is accepted. */
  readonly check: Check | null;
}

export interface Catalogue extends Models {
  /** Actors whose presence is fresh. */
  liveActors(): readonly ActorEntry[];
  /** Live actors of the model, tasks that they run at once together, and when the youngest of them started. */
  capacity(model: string): { readonly actors: number; readonly slots: number; readonly sinceMs: number };
  /** Calls back when an actor says that it ends, or its supervisor that it died; not when its presence lapses. */
  onActorGone(listener: (actorId: string) => void): void;
  stop(): void;
}

/** Resolves when both buckets have been read. Throws `broker_unavailable`. */
export async function openCatalogue(bus: Bus, formats: Formats, clock: Clock, log: Log): Promise<Catalogue> {
  const models = new Map<string, KnownModel>();
  const actors = new Map<string, { readonly entry: ActorEntry; readonly seenAtMs: number }>();

  const goneListeners: ((actorId: string) => void)[] = [];

  const learnModel = (text: string): void => {
    const { v, model } = JSON.parse(text) as ModelEntry;
    if (v !== 1 || typeof model?.name !== "string") throw new TypeError("not a model entry of version 1");
    let check: Check | null = null;
    try {
      check = compileSchema(model.inputSchema, { formats });
    } catch (error) {
      log.error(
        { model: model.name, error: messageOf(error) },
        "input schema cannot be compiled; tasks of it are refused",
      );
    }
    const createdS = models.get(model.name)?.createdS ?? Math.floor(clock.now() / 1_000);
    models.set(model.name, { entry: model, createdS, check });
  };
  const learnActor = (subject: string, text: string): void => {
    if (text === "") {
      for (const [id] of actors) {
        if (subject !== bucketSubject(buckets.actors, id)) continue;
        actors.delete(id);
        for (const listener of goneListeners) listener(id);
      }
      return;
    }
    const entry = JSON.parse(text) as ActorEntry;
    if (entry?.v !== 1 || typeof entry.id !== "string" || !Array.isArray(entry.models)) {
      throw new TypeError("not an actor entry of version 1");
    }
    if (entry.llm !== undefined && !isOffers(entry.llm)) throw new TypeError("its offers of models cannot be read");
    actors.set(entry.id, { entry, seenAtMs: clock.monotonicMs() });
  };
  const guarded = (what: string, learn: (subject: string, text: string) => void) => {
    return (record: { subject: string; text(): string }): void => {
      try {
        learn(record.subject, record.text());
      } catch (error) {
        log.warn({ subject: record.subject, error: messageOf(error) }, `${what} entry is not readable; left out`);
      }
    };
  };
  const followers = await Promise.all([
    follow(bus, {
      stream: bucketStream(buckets.models),
      filter: anyInBucket(buckets.models),
      fromSequence: 1,
      log,
      onRecord: guarded("model", (_, text) => learnModel(text)),
    }),
    follow(bus, {
      stream: bucketStream(buckets.actors),
      filter: anyInBucket(buckets.actors),
      fromSequence: 1,
      log,
      onRecord: guarded("actor", learnActor),
    }),
  ]);
  await Promise.all(followers.map((follower) => follower.caughtUp));

  const liveActors = (): ActorEntry[] => {
    const now = clock.monotonicMs();
    for (const [id, { seenAtMs }] of actors) if (now - seenAtMs > PRESENCE_MS_MAX) actors.delete(id);
    return [...actors.values()].map(({ entry }) => entry);
  };
  const describe = (known: KnownModel): ModelDescription => {
    const { name, version, summary, inputSchema, outputSchema, example, slots, timeoutMs, maxAttempts } = known.entry;
    const count = liveActors().filter((actor) => actor.models.includes(name)).length;
    return {
      name,
      version,
      summary,
      inputSchema,
      outputSchema,
      ...(example === undefined ? {} : { example }),
      slots,
      timeoutMs,
      maxAttempts,
      actors: count,
      healthy: count > 0 && known.check !== null,
      createdS: known.createdS,
    };
  };
  return {
    list: () => [...models.values()].map(describe).sort((a, b) => a.name.localeCompare(b.name)),
    get: (name) => {
      const known = models.get(name);
      return known && describe(known);
    },
    knows: (name) => models.has(name),
    check: (name, input): readonly FieldProblem[] => {
      const known = models.get(name);
      if (!known) return [{ path: "", message: "no such model" }];
      return known.check ? known.check(input) : [{ path: "", message: "the model's schema cannot be used here" }];
    },
    liveActors,
    capacity(model) {
      const hosts = liveActors().filter((actor) => actor.models.includes(model));
      const slots = hosts.length * (models.get(model)?.entry.slots ?? 0);
      return { actors: hosts.length, slots, sinceMs: Math.max(0, ...hosts.map((actor) => actor.startedAtMs)) };
    },
    onActorGone: (listener) => void goneListeners.push(listener),
    stop: () => {
      for (const follower of followers) follower.stop();
    },
  };
}
