// HTTP requests as vLLM's server counts them: the families of prometheus_fastapi_instrumentator with its defaults, the
// clients that left, and what is under way for /load. The server begins a visit for each request; a handler that goes
// on sending ends it. Labels are the simulator's own paths and never what a client wrote.
import { Counts, type Family, Histogram } from "./exposition.ts";

/** One request, from its headers to the last byte of its answer. */
export interface Visit {
  /** The route that takes it: its path, such as `/v1/models/*`. */
  routed(path: string): void;
  /** The visit goes on when the handler has returned, until what is returned here is called. That is idempotent. */
  hold(): () => void;
  /** The handler has returned; the end, where nobody holds it. */
  answered(response: Response): void;
}

export interface HttpTraffic {
  /** `signal` aborts when the client leaves. */
  begin(request: Request): Visit;
  /** Requests to generate, embed, draw and so on that are not answered whole. */
  open(): number;
  families(): readonly Family[];
}

/** The library's own. */
const LATENCY_S = [0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 7.5, 10, 30, 60];
const LATENCY_COARSE_S = [0.1, 0.5, 1];
/** vLLM leaves them out, wherever they stand in a path: `/v1/load_lora_adapter` is one. The last one is the simulator's. */
const uncounted = /\/metrics|\/health|\/load|\/ping|\/version|\/server_info|^\/admin\//;
/** What is served is no client's to name. */
const methods: ReadonlySet<string> = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
const LEFT_STATUS = 499;

export function createHttpTraffic(): HttpTraffic {
  const total = new Counts("http_requests_total", "Total number of requests by method, status and handler.");
  const inBytes = sizes("http_request_size_bytes", "incoming requests");
  const outBytes = sizes("http_response_size_bytes", "outgoing responses");
  const latency = new Histogram(LATENCY_S);
  const byHandler = new Map<string, { labels: Record<string, string>; histogram: Histogram }>();
  const left = new Counts(
    "vllm:http_requests_client_disconnected_total",
    "Number of HTTP requests whose client disconnected before the response was complete.",
  );
  left.add({}, 0);
  let open = 0;

  const count = (request: Request, path: string, status: number, seconds: number, sentBytes: number): void => {
    if (uncounted.test(path)) return;
    const method = methods.has(request.method) ? request.method : "OTHER";
    total.add({ handler: path, method, status: `${Math.floor(status / 100)}xx` });
    inBytes.observe(path, Number(request.headers.get("content-length") ?? 0));
    outBytes.observe(path, sentBytes);
    latency.observe(seconds);
    const key = `${method} ${path}`;
    const entry = byHandler.get(key) ?? {
      labels: { handler: path, method },
      histogram: new Histogram(LATENCY_COARSE_S),
    };
    byHandler.set(key, entry);
    entry.histogram.observe(seconds);
  };

  return {
    open: () => open,
    families: () => [
      total,
      inBytes.family,
      outBytes.family,
      {
        name: "http_request_duration_highr_seconds",
        help: "Latency with many buckets but no API specific labels. Made for more accurate percentile calculations.",
        type: "histogram",
        samples: () => latency.samples({}),
      },
      {
        name: "http_request_duration_seconds",
        help: "Latency with only few buckets by handler. Made to be only used if aggregation by handler is important.",
        type: "histogram",
        samples: () => [...byHandler.values()].flatMap(({ labels, histogram }) => histogram.samples(labels)),
      },
      left,
    ],
    begin(request) {
      const begunMs = performance.now();
      let path = "none"; // the library's word for what no route takes
      let works = false;
      let holders = 1; // the handler
      let ended = false;
      let status = LEFT_STATUS;
      let sentBytes = 0;
      const end = (): void => {
        if (ended) return;
        ended = true;
        if (works) open--;
        count(request, path, status, (performance.now() - begunMs) / 1_000, sentBytes);
      };
      const release = (): void => {
        if (--holders === 0) end();
      };
      return {
        routed(taken) {
          path = taken;
          works = request.method === "POST" && taken.startsWith("/v1/");
          if (!works) return;
          open++;
          const leave = (): void => {
            if (!ended) left.add({});
            end();
          };
          request.signal.addEventListener("abort", leave, { once: true });
        },
        hold() {
          holders++;
          let held = true;
          return () => {
            if (held) release();
            held = false;
          };
        },
        answered(response) {
          status = response.status;
          sentBytes = Number(response.headers.get("content-length") ?? 0);
          release();
        },
      };
    },
  };
}

/** A summary by handler: how many bodies, and how long they were by their headers. */
function sizes(name: string, what: string) {
  const series = new Map<string, { count: number; sum: number }>();
  const family: Family = {
    name,
    help: `Content length of ${what} by handler. Only value of header is respected. Otherwise ignored. No percentile calculated.`,
    type: "summary",
    samples: () =>
      [...series].flatMap(([handler, { count, sum }]) => [
        { suffix: "_count", labels: { handler }, value: count },
        { suffix: "_sum", labels: { handler }, value: sum },
      ]),
  };
  return {
    family,
    observe(handler: string, bytes: number): void {
      const entry = series.get(handler) ?? { count: 0, sum: 0 };
      entry.count++;
      entry.sum += Number.isFinite(bytes) ? bytes : 0;
      series.set(handler, entry);
    },
  };
}
