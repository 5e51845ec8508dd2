// How the simulated server is: alive, ready, loaded, asleep, and which version it claims to be. Paths and answers are
// vLLM's; those of its development mode, as sleeping, are always there.
import type { Route } from "./routes.ts";
import type { ServerState } from "./server-state.ts";
import { WireError } from "./wire-error.ts";

/** Whoever reads it must not take it for a release of vLLM. */
const VERSION = "0.29.0+millrace.sim";

export const healthRoutes = (state: ServerState): readonly Route[] => [
  {
    method: "GET",
    path: "/health",
    handle: () => new Response(null, { status: state.dead ? 503 : 200 }),
  },
  {
    method: "GET",
    path: "/health/ready",
    handle: () => new Response(null, { status: state.dead || performance.now() < state.readyAtMs ? 503 : 200 }),
  },
  { method: "GET", path: "/ping", handle: () => new Response(null, { status: state.dead ? 503 : 200 }) },
  { method: "GET", path: "/version", handle: () => Response.json({ version: VERSION }) },
  {
    method: "GET",
    path: "/load",
    handle: () => Response.json({ server_load: state.metrics.traffic.open() }),
  },
  {
    method: "POST",
    path: "/sleep",
    handle({ request }) {
      const level = Number(new URL(request.url).searchParams.get("level") ?? "1");
      if (level !== 1 && level !== 2) throw new WireError(400, "level must be 1 or 2", "level");
      state.sleepLevel = level;
      return new Response(null);
    },
  },
  {
    method: "POST",
    path: "/wake_up",
    handle() {
      state.sleepLevel = 0;
      return new Response(null);
    },
  },
  { method: "GET", path: "/is_sleeping", handle: () => Response.json({ is_sleeping: state.sleepLevel > 0 }) },
  {
    method: "POST",
    path: "/reset_prefix_cache",
    handle(_, { engine }) {
      if (!engine.forgetPrefixes()) throw new WireError(409, "Requests are running: the prefix cache stays.");
      return new Response(null);
    },
  },
];
