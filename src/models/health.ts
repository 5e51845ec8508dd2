// What this process has learned of the targets by trying them: a breaker for each, and the providers that refused our
// key. A hint of one process and no shared truth: others learn for themselves. It calls no server.
import type { Clock } from "../clock.ts";
import type { Log } from "../log.ts";
import { admitsTry, afterAdmitting, afterNews, type Breaker, breakerAt, closedBreaker } from "./breaker.ts";
import type { Target, TryNews } from "./llm-models.ts";

/** A refused key stays a refused one, and is tried again after this; a new one comes with the file or a restart. */
export const UNAUTHORIZED_MS = 300_000;

/** What a breaker belongs to. */
export type Place = Pick<Target, "model" | "variant" | "provider" | "perGpu">;

export interface Health {
  admits(place: Place, actorId: string): boolean;
  /** Its provider has refused our key a short while ago. */
  refuses(place: Place): boolean;
  /** As `admits`; a half-open breaker has its probe out afterwards. */
  take(place: Place, actorId: string): boolean;
  report(place: Place, actorId: string, news: TryNews): void;
  /** The worst of the target's breakers. */
  stateOf(place: Place): Breaker["state"];
  /** After the file was loaded anew: keys may be others. */
  forgetRefusals(): void;
  /** Drops what belongs to actors that are gone. */
  keepActors(actorIds: ReadonlySet<string>): void;
}

const severity: readonly Breaker["state"][] = ["closed", "half-open", "open"];

export function createHealth(clock: Pick<Clock, "monotonicMs">, log: Pick<Log, "info" | "warn">): Health {
  /** Only those that are not as new: by target, then by actor. */
  const breakers = new Map<string, Map<string, Breaker>>();
  const refusedUntilMs = new Map<string, number>();
  const keyOf = ({ model, variant }: Place): string => `${model}\n${variant}`;
  const serverOf = ({ perGpu }: Place, actorId: string): string => (perGpu ? actorId : "");
  const read = (place: Place, actorId: string): Breaker =>
    breakers.get(keyOf(place))?.get(serverOf(place, actorId)) ?? closedBreaker;
  const write = (place: Place, actorId: string, breaker: Breaker): void => {
    const key = keyOf(place);
    const ofTarget = breakers.get(key) ?? new Map<string, Breaker>();
    if (breaker === closedBreaker) ofTarget.delete(serverOf(place, actorId));
    else ofTarget.set(serverOf(place, actorId), breaker);
    if (ofTarget.size === 0) breakers.delete(key);
    else breakers.set(key, ofTarget);
  };
  const refuses: Health["refuses"] = ({ provider }) => (refusedUntilMs.get(provider) ?? 0) > clock.monotonicMs();
  const admits: Health["admits"] = (place, actorId) =>
    !refuses(place) && admitsTry(read(place, actorId), clock.monotonicMs());
  /** To the log, when it leaves "closed" and when it is back: what lies between is told by the metrics. */
  const tell = (place: Place, actorId: string, before: Breaker["state"], after: Breaker["state"]): void => {
    if ((before === "closed") === (after === "closed")) return;
    const { model, variant, provider, perGpu } = place;
    const about = { model, variant, provider, ...(perGpu && { actor: actorId }) };
    if (after === "closed") log.info(about, "a breaker closes: the variant answers again");
    else log.warn(about, "a breaker opens: the variant fails, and is left out for now");
  };
  return {
    admits,
    refuses,
    take(place, actorId) {
      if (!admits(place, actorId)) return false;
      const breaker = read(place, actorId);
      if (breaker !== closedBreaker) write(place, actorId, afterAdmitting(breaker, clock.monotonicMs()));
      return true;
    },
    report(place, actorId, news) {
      const nowMs = clock.monotonicMs();
      if (news === "unauthorized") {
        if (!refuses(place))
          log.warn({ provider: place.provider }, "the provider refuses our key, and is left out for now");
        refusedUntilMs.set(place.provider, nowMs + UNAUTHORIZED_MS);
      } else if (news === "ok") refusedUntilMs.delete(place.provider);
      const breaker = read(place, actorId);
      if (breaker !== closedBreaker || news === "failed") {
        const after = afterNews(breaker, news, nowMs);
        write(place, actorId, after);
        tell(place, actorId, breaker.state, after.state);
      }
    },
    stateOf(place) {
      const nowMs = clock.monotonicMs();
      const states = [...(breakers.get(keyOf(place))?.values() ?? [])].map((one) => breakerAt(one, nowMs).state);
      return severity.findLast((state) => states.includes(state)) ?? "closed";
    },
    forgetRefusals: () => refusedUntilMs.clear(),
    keepActors(actorIds) {
      for (const [key, ofTarget] of breakers) {
        for (const id of ofTarget.keys()) if (id !== "" && !actorIds.has(id)) ofTarget.delete(id);
        if (ofTarget.size === 0) breakers.delete(key);
      }
    },
  };
}
