// The LlmCaller of a gateway: chooses the actor for each try and speaks to it over NATS. The gateway's composition root
// opens it. Its counts are hints of this gateway alone; other gateways have their own.
import type { Bus } from "../bus/connection.ts";
import type { Clock } from "../clock.ts";
import { AppError, asAppError } from "../errors.ts";
import { type CallParts, callTargets } from "../llm/calls.ts";
import type { LlmCaller } from "../llm/llm.ts";
import { type CallObserver, silentObserver } from "../llm/observer.ts";
import { TryFailure } from "../llm/try.ts";
import { Watchdog } from "../llm/watchdog.ts";
import type { Log } from "../log.ts";
import type { ActorEntry } from "../models/announce.ts";
import type { LlmModels } from "../models/llm-models.ts";
import { serves } from "../models/offers.ts";
import { chooseActor } from "./choose-actor.ts";
import { createGatewayLink } from "./gateway-link.ts";
import { createPlaces } from "./places.ts";

export interface LiveCallerOptions {
  /** A connection for tokens alone. */
  readonly bus: Bus;
  readonly models: LlmModels;
  readonly liveActors: () => readonly ActorEntry[];
  readonly clock: Clock;
  readonly log: Log;
  readonly observer?: CallObserver;
  /** Given by tests alone. */
  readonly silenceMs?: number;
}

export interface LiveCaller extends LlmCaller {
  /** Calls under way, by model id. */
  inFlight(): ReadonlyMap<string, number>;
  /** An actor said that it ends, or its supervisor that it died. */
  actorGone(actorId: string): void;
  /** Ends every call that is still under way. */
  stop(): void;
}

/** Calls of a model that sets no limit: twice what an actor takes. */
const MODEL_CALLS_MAX = 2_048;

export function openLiveCaller(options: LiveCallerOptions): LiveCaller {
  const { bus, models, liveActors, clock, log, observer = silentObserver } = options;
  const watchdog = new Watchdog(clock);
  const link = createGatewayLink(bus, watchdog, log, options.silenceMs);
  const parts: CallParts = { models, clock, watchdog, random: Math.random, observer };
  const atActor = new Map<string, number>();
  const places = createPlaces(clock);
  return {
    async call(request) {
      const model = models.resolve(request.model, request.endpoint);
      const id = model?.id ?? "";
      const { affinity, keyId } = request; // all that is kept of it: see AnswerOptions
      const taken = places.take(id, model?.inFlightMax ?? MODEL_CALLS_MAX, keyId);
      if (taken !== "taken") {
        observer.began(id, request.endpoint);
        observer.refused(id, request.endpoint, "model_overloaded", 0);
        throw new AppError("model_overloaded", refusals[taken], { retryAfterS: 1 });
      }
      let at: string | null = null;
      const leave = (): void => {
        if (at !== null) add(atActor, at, -1);
        at = null;
      };
      const answer = callTargets(request, parts, {
        // Counted from here on: calls that come at once are being encoded together, and would all see the same counts.
        choose(target, excluded) {
          leave();
          const candidates = liveActors().filter((actor) => !excluded.has(actor.id) && serves(actor, target));
          for (;;) {
            const loads = candidates.map(({ id, pid }) => ({
              id,
              seat: seatOf(id, pid),
              inFlight: atActor.get(id) ?? 0,
            }));
            const chosen = chooseActor(loads, affinity, Math.random());
            if (chosen === null) return null;
            if (models.admits(target, chosen)) {
              at = chosen;
              add(atActor, at, 1);
              return chosen;
            }
            candidates.splice(
              candidates.findIndex(({ id }) => id === chosen),
              1,
            );
          }
        },
        async open(attempt) {
          try {
            return await link.open(attempt);
          } catch (error) {
            if (error instanceof TryFailure) log.debug({ actor: at, outcome: error.outcome }, "a try failed");
            throw error;
          }
        },
        onOver() {
          leave();
          places.leave(id, keyId);
        },
      });
      answer.catch((error) => asAppError(error)?.code === "model_overloaded" && places.refused(id, keyId));
      return answer;
    },
    inFlight: () => places.inFlight,
    actorGone: (actorId) => link.actorGone(actorId),
    stop: () => link.stop(),
  };
}

const refusals = {
  full: "The model has no room.",
  share: "This key has its share of the model, and others wait for room.",
} as const;

/** The actor's place without its process: one that starts again keeps the calls whose prefixes its server knows. */
const seatOf = (id: string, pid: number): string => (id.endsWith(`-${pid}`) ? id.slice(0, -`-${pid}`.length) : id);

function add(counts: Map<string, number>, name: string, change: number): void {
  const count = (counts.get(name) ?? 0) + change;
  if (count > 0) counts.set(name, count);
  else counts.delete(name);
}
