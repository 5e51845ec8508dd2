// How the simulated server is: alive, ready, loaded, and which version it claims to be. Paths and answers are vLLM's;
// those of its development mode are always there.
import { jsonResponse } from "./json-response.ts";
import type { Route } from "./routes.ts";
import type { ServerState } from "./server-state.ts";

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
  { method: "GET", path: "/version", handle: () => jsonResponse({ version: VERSION }) },
  {
    method: "GET",
    path: "/load",
    handle: () => jsonResponse({ server_load: state.metrics.traffic.open() }),
  },
  {
    method: "POST",
    path: "/reset_prefix_cache",
    handle({ request }, { engine }) {
      const preempting = new URL(request.url).searchParams.get("reset_running_requests") === "true";
      return jsonResponse({ success: engine.forgetPrefixes(preempting) });
    },
  },
];
