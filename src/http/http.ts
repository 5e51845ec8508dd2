// The HTTP layer of a gateway: composes the routes of every noun with the parts they need, and starts and stops the
// server. The gateway command calls createHttp once. It decides nothing about a request; dispatch.ts and the routes do.
import type { Elysia } from "elysia";
import packageJson from "../../package.json" with { type: "json" };
import type { Blobs } from "../blobs/blobs.ts";
import { systemClock } from "../clock.ts";
import { type Config, isLoopback } from "../config.ts";
import type { Files } from "../files/files.ts";
import type { Keys } from "../keys/keys.ts";
import type { Limits } from "../keys/limits.ts";
import type { Tickets } from "../keys/tickets.ts";
import type { LlmCaller } from "../llm/llm.ts";
import type { FetchMedia } from "../llm/media.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics/metrics.ts";
import type { ActorEntry } from "../models/announce.ts";
import type { LlmModels } from "../models/llm-models.ts";
import type { Models } from "../models/models.ts";
import { fetchInput } from "../net/fetch-input.ts";
import { createBulk } from "../tasks/bulk.ts";
import type { Erase } from "../tasks/erase.ts";
import type { Find } from "../tasks/find.ts";
import type { Queues } from "../tasks/queues.ts";
import type { Retry } from "../tasks/retry.ts";
import type { Schedules } from "../tasks/schedules.ts";
import type { Tasks } from "../tasks/tasks.ts";
import type { Usage } from "../usage/usage.ts";
import type { Webhooks } from "../webhooks/webhooks.ts";
import { bulkRoutes } from "./bulk.ts";
import { withCors } from "./cors.ts";
import { createDispatch } from "./dispatch.ts";
import { docsRoutes } from "./docs.ts";
import { fileRoutes } from "./files.ts";
import { findRoutes } from "./find.ts";
import { createGate } from "./gate.ts";
import { healthRoutes, type PartReadiness } from "./health.ts";
import { createHolds } from "./holds.ts";
import { createLinks } from "./links.ts";
import { llmRoutes } from "./llm.ts";
import { metricsRoute } from "./metrics.ts";
import { modelRoutes } from "./models.ts";
import { openapiDocument } from "./openapi.ts";
import { queueRoutes } from "./queues.ts";
import type { Route } from "./route.ts";
import { scheduleRoutes } from "./schedules.ts";
import { createServer } from "./server.ts";
import { taskDataRoutes } from "./task-data.ts";
import { taskRoutes } from "./tasks.ts";
import { createTraffic } from "./traffic.ts";
import { usageRoutes } from "./usage.ts";
import { webhookRoutes } from "./webhooks.ts";

export interface HttpParts {
  readonly config: Pick<Config, "env" | "host" | "port" | "corsOrigins" | "trustedProxies" | "fetchAllowHosts">;
  readonly tasks: Tasks;
  readonly find: Find;
  readonly retry: Retry;
  readonly erase: Erase;
  readonly webhooks: Webhooks;
  readonly models: Models;
  readonly llm: LlmCaller;
  readonly llmModels: Pick<LlmModels, "list" | "find">;
  readonly queues: Pick<Queues, "list">;
  /** Actors whose presence is fresh. */
  readonly actors: () => readonly ActorEntry[];
  readonly keys: Keys;
  readonly limits: Limits;
  readonly tickets: Tickets;
  readonly blobs: Blobs;
  readonly files: Files;
  readonly schedules: Schedules;
  readonly usage: Pick<Usage, "report" | "quotaOf">;
  /** Asked on every `GET /health/ready`. */
  readonly readiness: () => readonly PartReadiness[];
  readonly metrics: Metrics;
  readonly log: Log;
}

export interface Http {
  /** For routes that an app adds. */
  readonly app: Elysia;
  /** The table that is served and described. */
  readonly routes: readonly Route[];
  /** Answers a request that came otherwise than by the socket. One that waits or streams must come by the socket. */
  readonly fetch: (request: Request) => Response | Promise<Response>;
  /** Requests that wait or stream now. */
  readonly heldCount: () => number;
  /** Throws `port_taken`. */
  listen(): Promise<{ readonly url: string; readonly port: number }>;
  /**
   * Refuses new connections, answers waits with what is known, ends event streams so that clients resume elsewhere,
   * and lets the rest finish for `graceMs` before cutting it off. Idempotent.
   */
  stop(graceMs: number): Promise<void>;
}

/** What a call that is cut off at the end of the grace needs to tell its client. */
const CALL_END_MS = 500;

export function createHttp(parts: HttpParts): Http {
  const { config } = parts;
  let stopping = false;
  const readiness = (): readonly PartReadiness[] =>
    stopping ? [{ part: "gateway", ready: false, detail: "stopping" }, ...parts.readiness()] : parts.readiness();

  const holds = createHolds((request, isKept) => server.keepOpen(request, isKept));
  const fetchMedia: FetchMedia = (url, sizeBytesMax, signal) =>
    fetchInput(url, { allowHosts: config.fetchAllowHosts, sizeBytesMax, signal });
  const links = createLinks(parts.tickets, systemClock);
  let document: string | null = null;
  const openapi = (): string => (document ??= JSON.stringify(openapiDocument(routes, packageJson.version)));
  const routes: readonly Route[] = [
    ...taskRoutes({ ...parts, holds, links }),
    ...findRoutes(parts.find),
    ...bulkRoutes(createBulk(parts.find, parts.tasks, parts.retry), parts.retry, holds, links),
    ...webhookRoutes(parts.tasks, parts.webhooks),
    ...taskDataRoutes(parts.tasks, parts.erase, links),
    ...llmRoutes({ ...parts, holds, fetchMedia }),
    ...modelRoutes(parts.models, parts.llmModels),
    ...fileRoutes(parts.files, parts.blobs),
    ...queueRoutes(parts),
    ...scheduleRoutes(parts.schedules, parts.models),
    ...usageRoutes(parts.usage, systemClock),
    ...healthRoutes(readiness),
    metricsRoute(parts.metrics, config.env === "dev" && isLoopback(config.host)),
    ...docsRoutes(openapi),
  ];
  const { trustedProxies } = config;
  const gate = createGate({
    ...parts,
    trustedProxies,
    peerOf: (request) => server.peerOf(request),
    clock: systemClock,
  });
  const { app, fetch } = createDispatch(routes, gate, createTraffic(parts.metrics, holds), parts.log);
  const server = createServer({ host: config.host, port: config.port, fetch: withCors(fetch, config.corsOrigins) });

  return {
    app,
    routes,
    fetch,
    heldCount: holds.count,
    listen: () => server.listen(),
    async stop(graceMs) {
      stopping = true;
      // What is cut off then can still say so.
      holds.stop(Math.max(0, graceMs - CALL_END_MS));
      await server.stop(graceMs);
    },
  };
}
