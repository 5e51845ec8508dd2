// `GET /metrics`: what this gateway counts, for Prometheus. Open where only this machine can ask; elsewhere it needs a
// key with the scope `metrics`, because the load of a service is nobody's business.
import { type Metrics, metricsContentType } from "../metrics/metrics.ts";
import { type Call, type Operation, type Route, reply } from "./route.ts";

const scrapeMetrics: Operation = {
  id: "metrics",
  tag: "Operation",
  summary: "Metrics of this gateway",
  description:
    "Prometheus text format 0.0.4. Counters are this process's own: sum them over all processes. The depths of queues " +
    "are the broker's and the same at every gateway: take one, or the maximum. In development on loopback no key is " +
    "needed.",
  answers: {
    "200": {
      description: "The metrics.",
      content: {
        "text/plain": {
          schema: { type: "string" },
          example: 'millrace_http_requests_total{method="GET",route="/v1/tasks/{id}",status="2xx"} 42\n',
        },
      },
    },
  },
  errors: [],
};

/** The route; `open` where no key is asked for. */
export function metricsRoute(metrics: Metrics, open: boolean): Route {
  const route = { method: "GET", path: "/metrics", operation: scrapeMetrics } as const;
  const handle = async (call: Call): Promise<Response> => reply(call, 200, metricsContentType, await metrics.text());
  return open ? { ...route, access: "public", handle } : { ...route, access: "key", scope: "metrics", handle };
}
