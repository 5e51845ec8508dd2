// The model server that an actor starts by VLLM_COMMAND, on its own GPU and a port of its own: waits until it is healthy,
// starts it again when it dies or hangs, and ends it with the actor. actor.ts keeps one. It sends it no work.
//
//   starting ── /health is 200 ──► up ── exit, or no answer ──► waiting ── delay ──► starting
import { createServer } from "node:net";
import { join } from "node:path";
import { type Clock, pause } from "../clock.ts";
import type { Log } from "../log.ts";
import { died, firstStart, restartDelayMs, started } from "../restart.ts";
import { logLines } from "./server-output.ts";

export interface ModelServerOptions {
  /** Given to a shell, with `{gpu}` and `{port}` put in. */
  readonly command: string;
  readonly gpu: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** It has come up, or gone. */
  readonly onChange: () => void;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
}

export interface ModelServer {
  /** Where it listens on 127.0.0.1; null while it is not up. */
  port(): number | null;
  /** Resolves when it is gone, with all that it has started. */
  stop(): Promise<void>;
}

/** Weights are fetched and loaded, kernels compiled. */
const START_MS_MAX = 1_800_000;
const START_ASKED_EVERY_MS = 250;
const ASKED_EVERY_MS = 5_000;
const HEALTH_MS_MAX = 5_000;
/** A server under load may be slow to say that it is well; one that has not said it three times in a row hangs. */
const SILENCES_MAX = 3;
/** For its last lines; a daemon that it has left may hold its output open for ever. */
const OUTPUT_MS_MAX = 1_000;
/** What is ours alone: a model's code runs in the server. */
const SECRETS = /^(API_KEYS|DATABASE_URL|NATS_URL|WEBHOOK_SECRET|JWT_SECRET|MILLRACE_API_KEY|(S3|MINIO)_\w+)$/;

export function keepModelServer(options: ModelServerOptions): ModelServer {
  const { clock, random, log, onChange } = options;
  const stopping = new AbortController();
  let port: number | null = null;
  const isUp = (now: number | null): void => {
    const changed = port !== now;
    port = now;
    if (changed && !stopping.signal.aborted) onChange();
  };
  const run = async (): Promise<void> => {
    let state = firstStart(clock.monotonicMs());
    while (!stopping.signal.aborted) {
      const code = await runOnce(options, stopping.signal, isUp);
      isUp(null);
      if (stopping.signal.aborted) return;
      state = died(state, clock.monotonicMs());
      const delayMs = restartDelayMs(state, random());
      const about = { code, failures: state.failures, delay_ms: delayMs };
      log.warn(about, "the model server has ended; starting it again");
      await pause(delayMs, stopping.signal);
      state = started(state, clock.monotonicMs());
    }
  };
  const running = run();
  return {
    port: () => port,
    async stop() {
      stopping.abort();
      await running;
    },
  };
}

/** The command line of the guard with the server's behind it. Bun would read .env again, and with it our secrets. */
export const guarded = (command: string): string[] => [
  process.execPath,
  "--smol",
  "--no-env-file",
  join(import.meta.dir, "model-server-guard.ts"),
  "sh",
  "-c",
  command.replace(ASSIGNMENTS, "$1exec "), // the program in place of the shell, so that its signals are its own
];

/** `NAME=value ` before a program, quoted or not: a shell takes them before `exec` alone. */
const ASSIGNMENTS = /^\s*((?:[A-Za-z_]\w*=(?:[^\s'"\\;&|<>]|'[^']*'|"(?:[^"\\]|\\.)*"|\\.)*\s+)*)/;

/** One life of the server; resolves to its exit code, 1 where a signal ended it, null where it is not known. */
async function runOnce(
  options: ModelServerOptions,
  stop: AbortSignal,
  isUp: (port: number) => void,
): Promise<number | null> {
  const { log, clock, gpu } = options;
  const port = await freePort();
  const over = new AbortController();
  const begunMs = clock.monotonicMs();
  const command = options.command.replaceAll("{gpu}", gpu).replaceAll("{port}", String(port));
  let pid: number | null = null;
  const guard = Bun.spawn(guarded(command), {
    env: { ...withoutSecrets(options.env), CUDA_VISIBLE_DEVICES: gpu },
    stdio: ["ignore", "pipe", "pipe"],
    serialization: "json",
    detached: true, // Ctrl-C in a terminal is for the supervisor, which ends the actor in order
    ipc(message: { readonly pid: number }) {
      pid = message.pid;
      log.info({ process_pid: pid, port }, "the model server starts");
    },
  });
  const end = (): void => guard.kill("SIGTERM");
  stop.addEventListener("abort", end, { once: true });
  if (stop.aborted) end();
  const reading = Promise.all([logLines(guard.stdout, log, clock), logLines(guard.stderr, log, clock)]);
  const watching = watchHealth(port, clock, AbortSignal.any([stop, over.signal]), () => {
    log.info({ port, ready_ms: Math.round(clock.monotonicMs() - begunMs) }, "the model server is up");
    isUp(port);
  }).then((why) => {
    if (why === null) return;
    log.error({ process_pid: pid, why }, "the model server hangs and is ended");
    end();
  });
  await guard.exited;
  over.abort();
  stop.removeEventListener("abort", end);
  if (pid !== null) killGroup(pid); // nothing is left, even where the guard itself was killed
  await Promise.all([Promise.race([reading, Bun.sleep(OUTPUT_MS_MAX)]), watching]);
  return guard.exitCode;
}

/** Resolves to why the server is to be ended; to null once `signal` aborts. */
async function watchHealth(port: number, clock: Clock, signal: AbortSignal, onUp: () => void): Promise<string | null> {
  const deadlineMs = clock.monotonicMs() + START_MS_MAX;
  while (!signal.aborted && !(await isHealthy(port, signal))) {
    if (clock.monotonicMs() > deadlineMs) return "it does not come up in time";
    await pause(START_ASKED_EVERY_MS, signal);
  }
  if (signal.aborted) return null;
  onUp();
  for (let silences = 0; silences < SILENCES_MAX; ) {
    await pause(ASKED_EVERY_MS, signal);
    if (signal.aborted) return null;
    silences = (await isHealthy(port, signal)) ? 0 : silences + 1;
  }
  return "it does not answer";
}

async function isHealthy(port: number, signal: AbortSignal): Promise<boolean> {
  try {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(HEALTH_MS_MAX)]);
    const response = await fetch(`http://127.0.0.1:${port}/health`, { redirect: "manual", signal: limit });
    await response.body?.cancel();
    return response.ok;
  } catch {
    return false; // not yet, or not any more
  }
}

const withoutSecrets = (env: ModelServerOptions["env"]): Record<string, string | undefined> =>
  Object.fromEntries(Object.entries(env).filter(([name]) => !SECRETS.test(name)));

function killGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** Free a moment ago; a server that finds it taken ends, and is started again on another. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}
