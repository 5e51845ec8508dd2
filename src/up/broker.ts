// The embedded broker under supervision: started once by `up`, and started again on the same port and store when it
// dies, so that clients find it where it was. Its address and token stay valid for as long as DATA_DIR does not change.
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Server, type ServerOptions, startServer } from "../bus/server.ts";
import { pause } from "../clock.ts";
import { messageOf } from "../errors.ts";
import { died, firstStart, restartDelayMs, started } from "../restart.ts";
import type { ChildParts } from "./child.ts";

export interface Broker {
  /** With the token in it. */
  readonly url: string;
  /** Idempotent; resolves when the server is gone. */
  stop(): Promise<void>;
}

/** Where commands of the same user find the running broker: a file with its URL, readable by that user alone. */
export const brokerUrlFile = (dataDir: string): string => join(dataDir, "nats", "url");

/** Starts the broker and keeps it running. Throws what `startServer` throws when the first start fails. */
export async function keepBroker(options: ServerOptions, parts: ChildParts): Promise<Broker> {
  const { log, clock, random, records, counts } = parts;
  const stopping = new AbortController();
  let server: Server = await startServer(options);
  const { url, port } = server;
  counts.running("broker", true);
  await records.remember("broker", server.pid);
  await rm(brokerUrlFile(options.dataDir), { force: true }); // its mode would stay as it was
  await writeFile(brokerUrlFile(options.dataDir), url, { mode: 0o600 });

  const restart = async (state = firstStart(clock.monotonicMs())): Promise<void> => {
    const exit = await server.exited;
    if (stopping.signal.aborted) return;
    log.error({ process: "broker", ...exit }, "the broker died");
    counts.died("broker");
    counts.running("broker", false);
    let next = died(state, clock.monotonicMs());
    for (;;) {
      await pause(restartDelayMs(next, random()), stopping.signal);
      if (stopping.signal.aborted) return;
      try {
        server = await startServer({ ...options, port });
        break;
      } catch (error) {
        next = died(next, clock.monotonicMs());
        log.error({ process: "broker", error: messageOf(error), failures: next.failures }, "the broker does not start");
      }
    }
    await records.remember("broker", server.pid);
    counts.running("broker", true);
    log.info({ process: "broker", failures: next.failures }, "the broker runs again");
    return restart(started(next, clock.monotonicMs()));
  };
  const running = restart();

  return {
    url,
    async stop() {
      stopping.abort();
      await server.stop();
      await running;
      await server.stop(); // one that started while we stopped
      await records.forget("broker");
      await rm(brokerUrlFile(options.dataDir), { force: true });
    },
  };
}
