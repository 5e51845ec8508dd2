// The simulated vLLM server: HTTP in front of the engine. Started by the `sim` command in a process of its own and by
// tests in theirs. It imports nothing of the runtime that it stands in for, and holds nothing outside of itself.
import { adapterRoutes } from "./adapters.ts";
import { audioRoutes } from "./audio.ts";
import { chatRoutes } from "./chat.ts";
import { completionRoutes } from "./completions.ts";
import { embeddingRoutes } from "./embeddings.ts";
import { createEngine } from "./engine.ts";
import { wallClock } from "./engine-clock.ts";
import type { Visit } from "./http-traffic.ts";
import { imageRoutes } from "./images.ts";
import { listen } from "./listener.ts";
import { type AnswerSettings, loadAnswers } from "./modes/options.ts";
import { loadProfile } from "./profile.ts";
import { loadRecording } from "./recording.ts";
import { readBody } from "./request-body.ts";
import type { Exchange, Route, Simulation } from "./routes.ts";
import { createServedModels, modelRoutes } from "./served-models.ts";
import { createSurface } from "./surface.ts";
import { tokenRoutes } from "./tokens.ts";
import { errorResponse, WireError } from "./wire-error.ts";

export interface SimulatorOptions extends AnswerSettings {
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** Default 0: any free one. */
  readonly port?: number;
  /** A shipped profile, or the path of a .yaml file. Default `instant`. */
  readonly profile?: string;
  /** Names that the model answers to; `*` is any. Default `millrace-sim`. */
  readonly models?: readonly string[];
  /** How many times faster than the profile. Default 1. */
  readonly speedup?: number;
  /** Another seed gives other answers. Default `0`. */
  readonly seed?: string;
  /** Fields that vLLM ignores without a word, such as `guided_json`, are ignored and not refused. Default false. */
  readonly strictCompat?: boolean;
}

export interface Simulator {
  /** Such as `http://127.0.0.1:8001`; OpenAI's routes are below its `/v1`. */
  readonly url: string;
  /** Choices of requests that run or wait in the engine. */
  inflight(): number;
  /** Cuts what is still being answered. Idempotent. */
  stop(): Promise<void>;
}

export { SettingsError } from "./settings-error.ts";

const defaultModels: readonly string[] = ["millrace-sim"];

/** Pictures come inside of a request. */
const BODY_BYTES_MAX = 128 * 1024 * 1024;
/** The longest that Bun takes; what generates is exempt from it. */
const IDLE_S = 255;

const coreRoutes: readonly Route[] = [
  ...chatRoutes,
  ...completionRoutes,
  ...embeddingRoutes,
  ...imageRoutes,
  ...audioRoutes,
  ...tokenRoutes,
  ...modelRoutes,
  ...adapterRoutes,
  {
    method: "GET",
    path: "/admin/inflight",
    handle: (_, { engine, inflight }) => Response.json({ inflight: inflight(), ...engine.load() }),
  },
];

/** Resolves once it listens. Throws SettingsError, and EADDRINUSE where the port is taken. */
export async function startSimulator(options: SimulatorOptions = {}): Promise<Simulator> {
  const profile = await loadProfile(options.profile ?? "instant");
  const recording = profile.replay === null ? null : await loadRecording(profile.replay);
  const seed = options.seed ?? "0";
  const models = createServedModels(options.models ?? defaultModels);
  const answers = await loadAnswers(options);
  const surface = createSurface({ answers, profile, modelName: models.list()[0]?.id ?? "any", seed });
  const { observer, faults } = surface;
  const engine = createEngine({ profile, recording, clock: wallClock, speedup: options.speedup ?? 1, observer });
  const simulation: Simulation = {
    engine,
    clock: wallClock,
    models,
    faults,
    answers,
    seed,
    strictCompat: options.strictCompat ?? false,
    fingerprint: `millrace-sim-${profile.name}`,
    inflight: () => engine.load().running + engine.load().waiting,
  };
  const find = routeTable([...coreRoutes, ...surface.routes]);
  const serve = (port: number) =>
    Bun.serve({
      hostname: options.host ?? "127.0.0.1",
      port,
      idleTimeout: IDLE_S,
      development: false, // a socket that is cut on purpose is no error to print
      maxRequestBodySize: BODY_BYTES_MAX,
      async fetch(request, server) {
        server.timeout(request, 0);
        const visit = surface.traffic.begin(request);
        const requestId = requestIdOf(request);
        const response = await answer(request, requestId, visit, find, simulation);
        response.headers.set("x-request-id", requestId);
        visit.answered(response);
        return response;
      },
      error(error) {
        console.error(error); // of a body that is being sent: a cut that was asked for does not come here
        return errorResponse(500, "Internal server error");
      },
    });
  const listener = listen(serve, options.port ?? 0);
  surface.onRefuse(listener.refuse);
  return {
    url: listener.url,
    inflight: simulation.inflight,
    async stop() {
      engine.stop();
      await listener.stop();
    },
  };
}

type FindRoute = (method: string, path: string) => { route: Route; rest: string };

/** What the route answers, or what is refused. */
async function answer(
  request: Request,
  requestId: string,
  visit: Visit,
  find: FindRoute,
  simulation: Simulation,
): Promise<Response> {
  try {
    return await served(request, requestId, visit, find, simulation);
  } catch (error) {
    if (error instanceof WireError) return errorResponse(error.status, error.message, error.param);
    console.error(error); // a defect of the simulator: a fault that was asked for does not come here
    return errorResponse(500, "Internal server error");
  }
}

/** As vLLM with --enable-request-id-headers: a proxy's own, or a new one. */
function requestIdOf({ headers }: Request): string {
  const given = headers.get("x-request-id");
  return given !== null && /^[\x21-\x7e]{1,200}$/.test(given) ? given : crypto.randomUUID();
}

async function served(
  request: Request,
  requestId: string,
  visit: Visit,
  find: FindRoute,
  simulation: Simulation,
): Promise<Response> {
  const path = new URL(request.url).pathname;
  const { route, rest } = find(request.method, path);
  visit.routed(route.path);
  const { body, file } = await readBody(request, route.body);
  const { hold: holdOpen } = visit;
  const exchange: Exchange = { request, requestId, path, rest, body, file, signal: request.signal, holdOpen };
  const fault = simulation.faults.pick(exchange);
  const instead = (await fault?.before?.()) ?? null;
  if (instead !== null) return instead;
  const response = await route.handle(exchange, simulation);
  return fault?.after ? fault.after(response) : response;
}

/** Finds the route of a path; throws WireError 404 or 405. */
function routeTable(routes: readonly Route[]): FindRoute {
  const exact = new Map(routes.map((route) => [`${route.method} ${route.path}`, route]));
  const open = routes.filter(({ path }) => path.endsWith("/*"));
  return (method, path) => {
    const route = exact.get(`${method} ${path}`);
    if (route) return { route, rest: "" };
    const above = open.find((one) => one.method === method && path.startsWith(one.path.slice(0, -1)));
    if (above) return { route: above, rest: decoded(path.slice(above.path.length - 1)) };
    const known = routes.some((one) => one.path === path);
    throw known ? new WireError(405, "Method Not Allowed") : new WireError(404, "Not Found");
  };
}

/** As it is where it is no percent-encoding. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
