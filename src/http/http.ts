// The HTTP layer of a gateway: composes the routes of every noun, hangs them on Elysia, and owns the listening socket.
// main calls createHttp once. Every request passes `serve`, the one place where keys are checked and errors answered;
// a handler can neither forget a key nor leak a stack.
import { Elysia } from "elysia";
import packageJson from "../../package.json" with { type: "json" };
import type { Blobs } from "../blobs/blobs.ts";
import type { Config } from "../config.ts";
import { AppError } from "../errors.ts";
import type { Keys } from "../keys/keys.ts";
import type { Log } from "../log.ts";
import type { Models, Tasks } from "../tasks/tasks.ts";
import { requestIdOf } from "./correlation.ts";
import { ownerOf } from "./credentials.ts";
import { docsRoutes } from "./docs.ts";
import { healthRoutes, type PartReadiness } from "./health.ts";
import { createHolds } from "./holds.ts";
import { modelRoutes } from "./models.ts";
import { openapiDocument } from "./openapi.ts";
import { problemReply } from "./problem.ts";
import { type Route, replyEmpty } from "./route.ts";
import { createServer } from "./server.ts";
import { taskRoutes } from "./tasks.ts";

export interface HttpParts {
  readonly config: Pick<Config, "host" | "port">;
  readonly tasks: Tasks;
  readonly models: Models;
  readonly keys: Keys;
  readonly blobs: Blobs;
  /** Asked on every `GET /health/ready`. */
  readonly readiness: () => readonly PartReadiness[];
  readonly log: Log;
}

export interface Http {
  /** For routes that an app adds. */
  readonly app: Elysia;
  /** The table that is served and described. */
  readonly routes: readonly Route[];
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

export function createHttp(parts: HttpParts): Http {
  const { config, log } = parts;
  let stopping = false;
  const readiness = (): readonly PartReadiness[] =>
    stopping ? [{ part: "gateway", ready: false, detail: "stopping" }, ...parts.readiness()] : parts.readiness();

  const holds = createHolds((request) => server.keepOpen(request));
  let document: string | null = null;
  const openapi = (): string => (document ??= JSON.stringify(openapiDocument(routes, packageJson.version)));
  const routes: readonly Route[] = [
    ...taskRoutes({ ...parts, holds }),
    ...modelRoutes(parts.models),
    ...healthRoutes(readiness),
    ...docsRoutes(openapi),
  ];
  const app = createApp(routes, parts.keys, log);
  const server = createServer({ host: config.host, port: config.port, fetch: app.fetch });

  return {
    app,
    routes,
    heldCount: holds.count,
    listen: () => server.listen(),
    async stop(graceMs) {
      stopping = true;
      holds.stop();
      await server.stop(graceMs);
    },
  };
}

/**
 * The routes on Elysia. Lean on purpose, as measured: no hooks, no schemas, no parsed headers or query, bodies read by
 * us (`parse: "none"`). HEAD is registered by hand because Elysia's own reads the whole body of the GET to count it.
 */
function createApp(routes: readonly Route[], keys: Keys, log: Log): Elysia {
  const app = new Elysia({ aot: true, normalize: false, strictPath: true, handler: { standardHostname: false } });
  for (const route of routes) {
    const path = route.path.replace("{id}", ":id");
    for (const method of route.method === "GET" ? ["GET", "HEAD"] : [route.method]) {
      if (path === route.path) {
        app.route(method, path, ({ request }) => serve(route, request, "", keys, log), { parse: "none" });
      } else {
        const handler = ({ request, params }: { request: Request; params: Record<string, string> }) =>
          serve(route, request, params.id ?? "", keys, log);
        app.route(method, path, handler, { parse: "none" });
      }
    }
  }
  const unrouted = createUnrouted(routes, keys, log);
  app.onError(({ request, error }) => {
    const isUnknown = "code" in error && error.code === "NOT_FOUND";
    return isUnknown ? unrouted(request) : problemReply(error, { request, requestId: requestIdOf(request) }, log);
  });
  return app.compile();
}

async function serve(route: Route, request: Request, id: string, keys: Keys, log: Log): Promise<Response> {
  const requestId = requestIdOf(request);
  try {
    const call = { request, id, requestId };
    if (route.access === "public") return await route.handle(call);
    return await route.handle({ ...call, owner: ownerOf(request, keys) });
  } catch (error) {
    return problemReply(error, { request, requestId }, log);
  }
}

/** Answers what no route takes: OPTIONS, another method (405 and Allow), another path (404). Under /v1 a key first. */
function createUnrouted(routes: readonly Route[], keys: Keys, log: Log): (request: Request) => Response {
  const patterns = routes.map((route) => ({
    path: new RegExp(`^${route.path.replaceAll(".", "\\.").replace("{id}", "[^/]+")}$`),
    methods: route.method === "GET" ? ["GET", "HEAD"] : [route.method],
  }));
  return (request) => {
    const call = { request, requestId: requestIdOf(request) };
    const { pathname } = new URL(request.url);
    const methods = new Set(patterns.filter(({ path }) => path.test(pathname)).flatMap((pattern) => pattern.methods));
    const allow = [...methods, "OPTIONS"].join(", ");
    try {
      // Without CORS headers: browsers of other origins learn nothing, and are refused by that.
      if (request.method === "OPTIONS" && methods.size > 0) return replyEmpty(call, 204, { allow });
      if (pathname.startsWith("/v1/")) ownerOf(request, keys);
      if (methods.size > 0) throw new AppError("method_not_allowed", `This path takes ${allow}.`);
      throw new AppError("route_not_found", "There is nothing at this path. The API is described at /docs.");
    } catch (error) {
      return problemReply(error, call, log, methods.size > 0 ? { allow } : undefined);
    }
  };
}
