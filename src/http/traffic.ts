// What the HTTP layer counts: answers and their latency by route, and the requests that wait or stream. dispatch.ts
// tells it of each answer. A route is its template, never a path, and a method that HTTP does not know is `other`: no
// client can make a series.
import type { Counter, Histogram, Metrics } from "../metrics/metrics.ts";
import { type Holds, holdKinds } from "./holds.ts";

/** The answers of one route. */
export interface RouteTraffic {
  /** `startMs` on the clock of `performance.now()`. */
  answered(request: Request, status: number, startMs: number): void;
}

export interface Traffic {
  /** Asked once for each route. */
  route(method: string, path: string): RouteTraffic;
  /** What no route took. */
  readonly unrouted: RouteTraffic;
}

interface Series {
  readonly count: Counter;
  readonly seconds: Histogram;
}

/** From a read out of memory to a submission that waits for a restarting broker. */
const LATENCY_BOUNDS_S = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const METHODS = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);

export function createTraffic(metrics: Metrics, holds: Holds): Traffic {
  const labels = ["method", "route", "status"];
  const requests = metrics.counter({
    name: "millrace_http_requests_total",
    help: "Answers by route and status class. Route none: no route took it.",
    labels,
  });
  const latency = metrics.histogram({
    name: "millrace_http_request_duration_seconds",
    help: "From the parsed head of a request to its answer. Without requests that wait on purpose, and event streams.",
    labels,
    bounds: LATENCY_BOUNDS_S,
  });
  metrics.sampled({
    name: "millrace_http_held_requests",
    help: "Requests that are kept open: long polls (wait), event streams (stream) and calls of models (call).",
    type: "gauge",
    read: () => holdKinds.map((kind) => ({ labels: [["kind", kind]], value: holds.count(kind) })),
  });
  const seriesOf = (...values: readonly string[]): Series => ({
    count: requests.of(...values),
    seconds: latency.of(...values),
  });
  const bind = (method: string, path: string): RouteTraffic => {
    // By status class: one is bound when it is first answered, so that a route has no series of what it never says.
    const bound: Series[] = [];
    return {
      answered(request, status, startMs) {
        const kind = Math.floor(status / 100);
        bound[kind] ??= seriesOf(method, path, `${kind}xx`);
        const series = bound[kind];
        series.count.add();
        if (!holds.wasHeld(request)) series.seconds.observe((performance.now() - startMs) / 1_000);
      },
    };
  };
  return {
    route: bind,
    unrouted: {
      answered: (request, status, startMs) =>
        bind(METHODS.has(request.method) ? request.method : "other", "none").answered(request, status, startMs),
    },
  };
}
