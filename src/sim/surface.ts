// What the simulator is beside its answers: faults, metrics, health, sleep and the live changes of /admin/config. The
// server makes one, asks it for a fault before each exchange, and serves its routes. The answers themselves are the
// business of other files.
import { adminRoutes } from "./admin.ts";
import { isRecord } from "./chat-request.ts";
import type { EngineObserver } from "./engine.ts";
import { effectsOf, FaultError, type FaultSpec, parseFault } from "./fault.ts";
import { createFaultRules } from "./fault-rules.ts";
import { healthRoutes } from "./health.ts";
import type { HttpTraffic } from "./http-traffic.ts";
import { injectedFault } from "./inject.ts";
import { createSimMetrics, metricsRoutes } from "./metrics.ts";
import type { Profile } from "./profile.ts";
import type { AnswerSource, Exchange, Faults, JsonBody, Route } from "./routes.ts";
import type { ServerState } from "./server-state.ts";
import { createSleep } from "./sleep.ts";
import { WireError } from "./wire-error.ts";

export interface Surface {
  readonly routes: readonly Route[];
  readonly faults: Faults;
  readonly observer: EngineObserver;
  readonly traffic: HttpTraffic;
  /** Sets what closes the socket for so many milliseconds: there is none until the server listens. */
  onRefuse(refuse: (ms: number) => void): void;
}

export interface SurfaceOptions {
  readonly answers: AnswerSource;
  readonly profile: Profile;
  /** The label of the metrics. */
  readonly modelName: string;
  readonly seed: string;
}

export function createSurface({ answers, profile, modelName, seed }: SurfaceOptions): Surface {
  const metrics = createSimMetrics({ modelName, modelLengthMax: profile.maxModelLen });
  const state: ServerState = {
    rules: createFaultRules(seed),
    metrics,
    dead: false,
    sleep: createSleep(),
    refuse() {},
    readyAtMs: performance.now() + profile.startupMs,
  };
  return {
    routes: [...healthRoutes(state), ...state.sleep.routes, ...adminRoutes(state), ...metricsRoutes(state)],
    faults: { pick: (exchange) => pickFault(state, answers, exchange) },
    observer: metrics.observer,
    traffic: metrics.traffic,
    onRefuse(refuse) {
      state.refuse = refuse;
    },
  };
}

const DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause.";

function pickFault(state: ServerState, answers: AnswerSource, exchange: Exchange) {
  const { request, path, body } = exchange;
  const posted = request.method === "POST";
  const works = posted && path.startsWith("/v1/");
  if (posted && path.endsWith("/completions")) countAsked(state, body);
  const model = typeof body.model === "string" ? body.model : "";
  const text = (): string => JSON.stringify(body);
  const spec =
    path === "/admin/config"
      ? null
      : (asked(request, body) ?? answers.faultOf(exchange) ?? state.rules.pick({ path, posted, model, text }));
  if (spec?.dead) state.dead = true;
  if (spec !== null) for (const part of effectsOf(spec)) state.metrics.injected(part);
  if (spec?.refuse_ms !== undefined) state.refuse(spec.refuse_ms);
  if (works && state.dead) throw new WireError(500, spec?.message ?? DEAD);
  if (works && state.sleep.refuses()) throw new WireError(503, "The engine is asleep: POST /wake_up first.");
  return spec === null ? null : injectedFault(spec, exchange);
}

/** The fault that the request itself asks for. Throws WireError 400 where there is no such fault. */
function asked(request: Request, body: JsonBody): FaultSpec | null {
  const xargs = body.vllm_xargs;
  const inBody = isRecord(xargs) && typeof xargs.sim_fault === "string" ? xargs.sim_fault : null;
  const text = request.headers.get("x-sim-fault") ?? inBody;
  if (text === null) return null;
  try {
    return parseFault(text);
  } catch (error) {
    if (error instanceof FaultError) throw new WireError(400, error.message);
    throw error;
  }
}

function countAsked({ metrics }: ServerState, { n, max_tokens, max_completion_tokens }: JsonBody): void {
  const maxTokens = max_completion_tokens ?? max_tokens;
  metrics.asked(typeof n === "number" ? n : 1, typeof maxTokens === "number" ? maxTokens : null);
}
