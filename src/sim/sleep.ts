// Sleep, as vLLM's development mode has it: the scheduler is paused, and with it the weights or the cache may be gone.
// surface.ts asks it before a request is worked on; its routes change it. Level 0 only pauses, so that requests wait;
// deeper sleep refuses them, or lets them wait too, as /admin/config says.
//
//   awake ── /sleep: level 0, 1, 2, or tags ──► asleep ── /wake_up: all, or the last tag ──► awake
import type { Engine } from "./engine.ts";
import { jsonResponse } from "./json-response.ts";
import type { Route } from "./routes.ts";
import { WireError } from "./wire-error.ts";

/** Memory that sleep gives back. */
const tags = ["weights", "kv_cache"] as const;
type Tag = (typeof tags)[number];

export interface Sleep {
  /** Whether a request is refused now, and does not wait until the engine is awake. */
  refuses(): boolean;
  /** Of `vllm:engine_sleep_state`: the state that is 1, null where none is. */
  state(): "awake" | "weights_offloaded" | "discard_all" | null;
  /** Whether requests wait while it is asleep, or are refused: the default. */
  queues: boolean;
  readonly routes: readonly Route[];
}

export function createSleep(): Sleep {
  const asleep = new Set<Tag>();
  let level: 0 | 1 | 2 | null = null;
  let paused = false;

  const sleep: Sleep = {
    queues: false,
    refuses: () => asleep.size > 0 && !sleep.queues,
    state() {
      if (!paused) return "awake";
      if (level === 1 && asleep.has("weights")) return "weights_offloaded";
      return asleep.has("weights") ? "discard_all" : null;
    },
    routes: [
      {
        method: "POST",
        path: "/sleep",
        handle({ request }, { engine }) {
          const query = new URL(request.url).searchParams;
          const named = tagsOf(query);
          const given = Number(query.get("level") ?? "1");
          if (given !== 0 && given !== 1 && given !== 2) throw new WireError(400, "level must be 0, 1 or 2", "level");
          engine.pause(abortsOf(query));
          paused = true;
          level = named === null ? given : null;
          for (const tag of named ?? (given === 0 ? [] : tags)) asleep.add(tag);
          if (asleep.has("kv_cache")) forget(engine);
          return new Response(null);
        },
      },
      {
        method: "POST",
        path: "/wake_up",
        handle({ request }, { engine }) {
          for (const tag of tagsOf(new URL(request.url).searchParams) ?? tags) asleep.delete(tag);
          if (asleep.size > 0) return new Response(null);
          paused = false;
          engine.resume();
          return new Response(null);
        },
      },
      { method: "GET", path: "/is_sleeping", handle: () => jsonResponse({ is_sleeping: paused }) },
    ],
  };
  return sleep;
}

/** What is kept while it sleeps has its memory; it is computed again, as its contents are gone. */
const forget = (engine: Engine): boolean => engine.forgetPrefixes(true);

/** Null where none are named. Throws WireError 400. */
function tagsOf(query: URLSearchParams): readonly Tag[] | null {
  const named = query.getAll("tags");
  const known = tags.filter((tag) => named.includes(tag));
  if (named.some((name) => !tags.some((tag) => tag === name))) {
    throw new WireError(400, `tags must be of ${tags.join(", ")}`, "tags");
  }
  return named.length === 0 ? null : known;
}

/** Throws WireError 400. */
function abortsOf(query: URLSearchParams): boolean {
  const mode = query.get("mode") ?? "abort";
  if (mode !== "abort" && mode !== "keep") throw new WireError(400, "mode must be abort or keep", "mode");
  return mode === "abort";
}
