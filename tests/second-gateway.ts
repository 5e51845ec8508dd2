// One more gateway beside a stack, on its broker, its folder and its database, as an operator would start it: for tests
// of what gateways share.
import { join } from "node:path";
import { readLog, type Stack } from "./stack.ts";

export interface SecondGateway {
  readonly url: string;
  readonly pid: number;
  /** Calls its API with the stack's key. `body` is sent as JSON. */
  call(method: string, path: string, body?: unknown): Promise<Response>;
  /** Resolves to the first log line, past or to come, with these fields. */
  logged(fields: Readonly<Record<string, unknown>>): Promise<Readonly<Record<string, unknown>>>;
  /** SIGTERM, or the signal given; resolves when it is gone. */
  stop(signal?: NodeJS.Signals): Promise<void>;
}

/** `settings`: what the stack was started with, and what is different here. */
export async function startSecondGateway(
  stack: Stack,
  settings: Readonly<Record<string, string>> = {},
): Promise<SecondGateway> {
  const ready = Promise.withResolvers<string>();
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "../src/main.ts"), "gateway"], {
    env: {
      PATH: process.env.PATH ?? "",
      ENV: "dev",
      DATA_DIR: stack.dataDir,
      API_KEYS: `test:${stack.key}`,
      NATS_URL: stack.natsUrl,
      ...settings,
      PORT: "0",
    },
    stdio: ["ignore", "ignore", "pipe"],
    ipc: (message: { type: string; url: string }) => message.type === "ready" && ready.resolve(message.url),
    onExit: () => ready.reject(new Error("the second gateway ended before it was ready")),
  });
  const log = readLog(child.stderr);
  const url = await ready.promise;
  return {
    url,
    pid: child.pid,
    call: (method, path, body) =>
      fetch(url + path, {
        method,
        headers: { "x-api-key": stack.key, ...(body !== undefined && { "content-type": "application/json" }) },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      }),
    logged: log.logged,
    async stop(signal = "SIGTERM") {
      child.kill(signal);
      await child.exited;
    },
  };
}
