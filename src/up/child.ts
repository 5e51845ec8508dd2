// Keeps one child process alive: starts it, hears when it is ready, starts it again after a delay when it dies, and
// ends it in order. Used by the supervisor for the gateway and for each actor. It decides nothing about the child's
// work; who wants to know of a death gives `onDeath`, which is awaited before the restart.
//
//   starting ── ready ──► running ── exit ──► waiting ── delay ──► starting
//      └────────── exit ─────────────────────────┘
//   any of them ── stop() ──► stopped
import { type Clock, pause } from "../clock.ts";
import { AppError, type ErrorCode, errorKinds } from "../errors.ts";
import type { Log } from "../log.ts";
import { died, firstStart, restartDelayMs, started } from "../restart.ts";
import type { ProcessRecords } from "./leftovers.ts";
import type { ChildCounts } from "./metrics.ts";

export interface ChildSpec {
  /** Such as `gateway` or `actor-0`: for logs and the process record. */
  readonly name: string;
  readonly command: readonly string[];
  /** Asked at each start. */
  env(): Readonly<Record<string, string | undefined>>;
  /** Called after each death that nobody asked for, with the dead process's id. Errors are logged; the restart does not depend on it. */
  onDeath?(pid: number): Promise<void>;
}

export interface ChildParts {
  readonly log: Log;
  readonly clock: Clock;
  readonly random: () => number;
  readonly records: ProcessRecords;
  readonly counts: ChildCounts;
}

/** What a child says of itself once it serves. */
interface Ready {
  /** The gateway's address. */
  readonly url?: string;
}

export interface Child {
  readonly name: string;
  /** Null between a death and the restart. */
  readonly pid: number | null;
  /**
   * The first time that it is ready. Rejects with the child's own AppError when it refuses to start (what the
   * configuration or the machine makes impossible is no matter for a restart), and with `not_ready` after
   * FIRST_STARTS_MAX deaths. A child that was ready once is started again for ever.
   */
  readonly ready: Promise<Ready>;
  /** SIGTERM, then SIGKILL after `graceMs` or when `force` aborts. Idempotent; resolves when the process is gone. */
  stop(graceMs: number, force: AbortSignal): Promise<void>;
}

/** Loading models takes a while; a child that is not ready by then hangs, and is killed and started again. */
const READY_MS_MAX = 300_000;
/** Starts that may fail before whoever waits for the child is told. They take about three seconds. */
const FIRST_STARTS_MAX = 5;

export function keepAlive(spec: ChildSpec, { log, clock, random, records, counts }: ChildParts): Child {
  const ready = Promise.withResolvers<Ready>();
  const stopping = new AbortController();
  let current: Bun.Subprocess | null = null;
  let refusal: AppError | null = null;
  let starts = 0;

  const runOnce = async (): Promise<number> => {
    const begun = clock.monotonicMs();
    const start = ++starts;
    const watchdog = setTimeout(() => current?.kill("SIGKILL"), READY_MS_MAX);
    const child = Bun.spawn([...spec.command], {
      env: spec.env(),
      stdio: ["ignore", "inherit", "inherit"],
      serialization: "json",
      // A session of its own: Ctrl-C in a terminal reaches the supervisor alone, which ends its children in order.
      detached: true,
      ipc(message) {
        const told = parseMessage(message);
        if (told?.type === "ready") {
          clearTimeout(watchdog);
          const readyMs = Math.round(clock.monotonicMs() - begun);
          log.info({ process: spec.name, start, ready_ms: readyMs }, "child is ready");
          counts.running(spec.name, true);
          ready.resolve(told);
        } else if (told) refusal = new AppError(told.code, told.message);
      },
    });
    current = child;
    counts.running(spec.name, false);
    await records.remember(spec.name, child.pid);
    await child.exited;
    clearTimeout(watchdog);
    current = null;
    counts.running(spec.name, false);
    await records.forget(spec.name);
    if (stopping.signal.aborted) return child.pid;
    counts.died(spec.name);
    log.warn({ process: spec.name, code: child.exitCode, signal: child.signalCode }, "a child process died");
    if (refusal) ready.reject(refusal);
    if (start >= FIRST_STARTS_MAX) {
      const end = child.signalCode ?? `exit code ${child.exitCode}`;
      const times = `died ${start} times before it was ready (last: ${end})`;
      ready.reject(new AppError("not_ready", `${spec.name} ${times}; what it printed stands above`));
    }
    return child.pid;
  };

  const run = async (): Promise<void> => {
    let state = firstStart(clock.monotonicMs());
    while (!stopping.signal.aborted) {
      const pid = await runOnce();
      if (stopping.signal.aborted) return;
      state = died(state, clock.monotonicMs());
      await spec.onDeath?.(pid).catch((error: unknown) => log.error({ process: spec.name, error }, "hand-over failed"));
      const delayMs = restartDelayMs(state, random());
      log.info({ process: spec.name, failures: state.failures, delay_ms: delayMs }, "starting it again");
      await pause(delayMs, stopping.signal);
      state = started(state, clock.monotonicMs());
    }
  };
  const running = run();
  ready.promise.catch(() => {}); // whoever asks for `ready` hears of it; a stop before that is no crash

  return {
    name: spec.name,
    get pid() {
      return current?.pid ?? null;
    },
    ready: ready.promise,
    async stop(graceMs, force) {
      const child = current;
      if (!stopping.signal.aborted) child?.kill("SIGTERM"); // once: a second one means "at once" to a service
      stopping.abort();
      const kill = (): void => {
        const why = force.aborted ? "it is killed: a second signal came" : "it does not stop in time and is killed";
        log.warn({ process: spec.name }, why);
        child?.kill("SIGKILL");
      };
      const timer = setTimeout(kill, graceMs);
      force.addEventListener("abort", kill, { once: true });
      if (force.aborted) kill();
      await running;
      clearTimeout(timer);
      force.removeEventListener("abort", kill);
      ready.reject(new AppError("not_ready", `${spec.name} was stopped`));
    },
  };
}

type Told = ({ readonly type: "ready" } & Ready) | { readonly type: "failed"; code: ErrorCode; message: string };

/** A message of a child, checked: plugins run in actors and may call `process.send` too. */
function parseMessage(message: unknown): Told | null {
  if (typeof message !== "object" || message === null || !("type" in message)) return null;
  const { type, url, code, message: text } = message as Record<string, unknown>;
  if (type === "ready") return typeof url === "string" ? { type, url } : { type };
  if (type !== "failed" || typeof code !== "string" || typeof text !== "string" || !(code in errorKinds)) return null;
  return { type, code: code as ErrorCode, message: text };
}
