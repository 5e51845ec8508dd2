// `GET /metrics` for a process that has no other HTTP: an actor. Its port is for the machine itself or a private
// network, without a key; it answers nothing else, and a port that is taken must not keep the process from its work.
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { type Metrics, metricsContentType } from "./metrics.ts";

export interface MetricsServer {
  /** Null where the port was taken. */
  readonly url: string | null;
  stop(): Promise<void>;
}

/** Seconds after which a silent connection is closed. */
const IDLE_S = 10;
/** No scrape has a body. */
const BODY_BYTES_MAX = 1_024;

/** `port` 0 takes any free one. */
export function serveMetrics(metrics: Metrics, host: string, port: number, log: Log): MetricsServer {
  try {
    const server = Bun.serve({
      hostname: host,
      port,
      reusePort: false,
      development: false,
      idleTimeout: IDLE_S,
      maxRequestBodySize: BODY_BYTES_MAX,
      fetch: (request) => answer(request, metrics),
    });
    const shown = host.includes(":") ? `[${host}]` : host;
    return { url: `http://${shown}:${server.port}/metrics`, stop: () => server.stop(true) };
  } catch (error) {
    log.error({ port, error: messageOf(error) }, "metrics are not served");
    return { url: null, stop: async () => {} };
  }
}

async function answer(request: Request, metrics: Metrics): Promise<Response> {
  if (new URL(request.url).pathname !== "/metrics") return new Response(null, { status: 404 });
  if (request.method !== "GET" && request.method !== "HEAD") {
    return new Response(null, { status: 405, headers: { allow: "GET, HEAD" } });
  }
  const headers = {
    "content-type": metricsContentType,
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
  };
  return new Response(await metrics.text(), { headers });
}
