// From a request to its route: the table on Elysia, and what no route takes. http.ts calls it once. Every request
// passes `serve`, the one place where keys are checked and errors answered: a handler can neither forget a key nor leak
// a stack.
import { Elysia } from "elysia";
import { AppError } from "../errors.ts";
import { requireScope } from "../keys/principal.ts";
import type { Log } from "../log.ts";
import { type BodyRoom, createBodyRoom } from "./body-room.ts";
import { requestIdOf } from "./correlation.ts";
import { type Gate, limitHeaders, requireAdmitted } from "./gate.ts";
import { unservedDetail } from "./openai-error.ts";
import { problemReply } from "./problem.ts";
import { type Route, replyEmpty, scopeOf } from "./route.ts";
import type { RouteTraffic, Traffic } from "./traffic.ts";

interface Target {
  readonly route: Route;
  readonly pattern: RegExp;
  readonly traffic: RouteTraffic;
  readonly room: BodyRoom;
}

export interface Dispatch {
  readonly app: Elysia;
  readonly fetch: (request: Request) => Response | Promise<Response>;
}

export function createDispatch(routes: readonly Route[], gate: Gate, traffic: Traffic, log: Log): Dispatch {
  const room = createBodyRoom();
  const targets = routes.map((route) => ({
    route,
    room,
    traffic: traffic.route(route.method, route.path),
    pattern: new RegExp(`^${route.path.replaceAll(".", "\\.").replace("{id}", route.idIsRest ? "(.+)" : "([^/]+)")}$`),
  }));
  const app = createApp(targets, gate, traffic, log);
  // Elysia answers HEAD by reading the whole body of the GET to count it, which an event stream would not survive.
  const fetch = (request: Request): Response | Promise<Response> =>
    (request.method === "HEAD" && serveHead(targets, request, gate, log)) || app.fetch(request);
  return { app, fetch };
}

/**
 * The routes on Elysia. Lean on purpose, as measured: no hooks, no schemas, no parsed headers or query, bodies read by
 * us (`parse: "none"`). `standardHostname: false`: it would not find the path behind a host name of one or two letters.
 */
function createApp(targets: readonly Target[], gate: Gate, traffic: Traffic, log: Log): Elysia {
  const app = new Elysia({ aot: true, normalize: false, strictPath: true, handler: { standardHostname: false } });
  for (const target of targets) {
    const { route } = target;
    const path = route.path.replace("{id}", route.idIsRest ? "*" : ":id");
    if (path === route.path) {
      app.route(route.method, path, ({ request }) => serve(target, request, "", gate, log), { parse: "none" });
    } else {
      const handler = ({ request, params }: { request: Request; params: Record<string, string> }) =>
        serve(target, request, params[route.idIsRest ? "*" : "id"] ?? "", gate, log);
      app.route(route.method, path, handler, { parse: "none" });
    }
  }
  app.onError(({ request, error }) => {
    if ("code" in error && error.code === "NOT_FOUND") {
      const startMs = performance.now();
      const response = unrouted(targets, request, gate, log);
      traffic.unrouted.answered(request, response.status, startMs);
      return response;
    }
    return problemReply(error, { request, requestId: requestIdOf(request) }, log);
  });
  return app.compile();
}

async function serve(target: Target, request: Request, id: string, gate: Gate, log: Log): Promise<Response> {
  const startMs = performance.now();
  const { route, traffic, room } = target;
  const requestId = requestIdOf(request);
  let response: Response;
  let limit: Record<string, string> | null = null;
  try {
    const call = { request, id, requestId };
    if (route.access === "public") response = await route.handle(call);
    else {
      const owner = gate.principalOf(request, route.byTicket === true);
      const verdict = await gate.take(owner);
      if (verdict) {
        limit = limitHeaders(verdict);
        requireAdmitted(verdict);
      }
      requireScope(owner, scopeOf(route));
      response = await route.handle({ ...call, owner, room });
    }
  } catch (error) {
    response = problemReply(error, { request, requestId, errorFormat: route.errorFormat }, log);
  }
  for (const name in limit) response.headers.set(name, limit[name] ?? "");
  traffic.answered(request, response.status, startMs);
  return response;
}

function serveHead(targets: readonly Target[], request: Request, gate: Gate, log: Log): Promise<Response> | null {
  const { pathname } = new URL(request.url);
  for (const target of targets) {
    const match = target.route.method === "GET" ? target.pattern.exec(pathname) : null;
    if (match) return serve(target, request, match[1] ?? "", gate, log);
  }
  return null;
}

/** Answers what no route takes: OPTIONS, another method (405 and Allow), another path (404). Under /v1 a key first. */
function unrouted(targets: readonly Target[], request: Request, gate: Gate, log: Log): Response {
  const { pathname } = new URL(request.url);
  const here = targets.filter(({ pattern }) => pattern.test(pathname)).map(({ route }) => route);
  const unserved = unservedDetail(pathname);
  const errorFormat = here[0]?.errorFormat ?? (here.length === 0 && unserved !== null ? "openai" : undefined);
  const call = { request, requestId: requestIdOf(request), errorFormat };
  const methods = here.flatMap(({ method }) => (method === "GET" ? ["GET", "HEAD"] : [method]));
  const allow = [...methods, "OPTIONS"].join(", ");
  try {
    // Without CORS headers, which cors.ts adds for the origins that are configured: others are refused by that.
    if (request.method === "OPTIONS" && methods.length > 0) return replyEmpty(call, 204, { allow });
    if (pathname.startsWith("/v1/")) gate.principalOf(request, false);
    if (methods.length > 0) throw new AppError("method_not_allowed", `This path takes ${allow}.`);
    throw new AppError("route_not_found", unserved ?? "There is nothing at this path. The API is described at /docs.");
  } catch (error) {
    return problemReply(error, call, log, methods.length > 0 ? { allow } : undefined);
  }
}
