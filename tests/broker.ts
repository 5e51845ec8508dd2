// A real nats-server for a test file, on a free port and a temporary store, with one connection to it. stop() leaves no
// process and no file behind.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Bus, openBus } from "../src/bus/connection.ts";
import { resolveServerBinary, type Server, startServer } from "../src/bus/server.ts";
import { ensureTopology } from "../src/bus/topology.ts";
import { silentLog } from "../src/log.ts";

export interface Broker {
  readonly url: string;
  readonly bus: Bus;
  readonly folder: string;
  /** The port of the monitoring pages may be another after restart(). */
  readonly server: Server;
  /** A further connection, closed by stop(). */
  connect(): Promise<Bus>;
  /** Subscriptions of all clients, as the broker counts them. */
  subscriptions(): Promise<number>;
  /** SIGKILL; resolves when the process is gone and the connection has noticed. */
  kill(): Promise<void>;
  /** After kill(): the same store on the same port; resolves when `bus` is connected again. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export interface BrokerOptions {
  readonly durability?: "fsync" | "fast";
  /** Makes the streams with so many partitions; 0: none. Default 1. */
  readonly partitions?: number;
  readonly taskTtlMs?: number;
}

const RECONNECT_MS_MAX = 20_000;

export async function startBroker(options: BrokerOptions = {}): Promise<Broker> {
  const { durability = "fast", partitions = 1, taskTtlMs = 3_600_000 } = options;
  const folder = await mkdtemp(join(tmpdir(), "millrace broker "));
  const binary = resolveServerBinary(null);
  let server = await startServer({ binary, dataDir: folder, port: 0, durability });
  const buses: Bus[] = [];
  const connect = async (): Promise<Bus> => {
    const bus = await openBus(server.url, "test", silentLog);
    buses.push(bus);
    return bus;
  };
  const bus = await connect();
  if (partitions > 0) await ensureTopology(bus, { partitions, durability, taskTtlMs }, silentLog);
  return {
    url: server.url,
    bus,
    folder,
    get server() {
      return server;
    },
    connect,
    async subscriptions() {
      for (const each of buses) await each.flush(5_000);
      const response = await fetch(`${server.monitorUrl}/connz`);
      const { connections } = (await response.json()) as { connections: { subscriptions: number }[] };
      return connections.reduce((sum, client) => sum + client.subscriptions, 0);
    },
    async kill() {
      const gone = new Promise<void>((resolve) => {
        const stop = bus.onDisconnect(() => {
          stop();
          resolve();
        });
      });
      process.kill(server.pid, "SIGKILL");
      await Promise.all([server.exited, gone]);
    },
    async restart() {
      server = await startServer({ binary, dataDir: folder, port: server.port, durability });
      for (const each of buses) {
        if (!(await each.whenConnected(RECONNECT_MS_MAX))) throw new Error("the connection did not come back");
      }
    },
    async stop() {
      for (const each of buses.splice(0)) await each.close();
      await server.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Resolves when `holds` does; it is asked again after each call of the returned function. */
export function signal(): { notify(): void; until(holds: () => boolean): Promise<void> } {
  const waiting = new Set<() => void>();
  return {
    notify() {
      for (const look of [...waiting]) look();
    },
    until: (holds) =>
      new Promise((resolve, reject) => {
        const late = setTimeout(() => {
          waiting.delete(look);
          reject(new Error(`not within ${UNTIL_MS_MAX} ms: ${holds}`));
        }, UNTIL_MS_MAX);
        const look = (): void => {
          if (!holds()) return;
          waiting.delete(look);
          clearTimeout(late);
          resolve();
        };
        waiting.add(look);
        look();
      }),
  };
}

const UNTIL_MS_MAX = 20_000;
