import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { connect as connectTcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { resolveServerBinary, type Server, startServer } from "./server.ts";

const binary = resolveServerBinary(null);
let dataDir = "";
const running: Server[] = [];

beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "millrace server "));
});
afterEach(async () => {
  for (const server of running.splice(0)) await server.stop();
  await rm(dataDir, { recursive: true, force: true });
});

async function start(durability: "fsync" | "fast", port = 0): Promise<Server> {
  const server = await startServer({ binary, dataDir, port, durability });
  running.push(server);
  return server;
}

const login = (server: Server) => ({ servers: `127.0.0.1:${server.port}`, token: tokenOf(server), reconnect: false });
const tokenOf = (server: Server): string => new URL(server.url).username;

describe("startServer", () => {
  test("serves on loopback with the token alone, its files private, in a folder with a space", async () => {
    const server = await start("fsync");
    const connection = await connect(login(server));
    expect(connection.info?.auth_required).toBe(true);
    await connection.close();
    expect(connect({ ...login(server), token: "wrong" })).rejects.toThrow(/authorization/i);
    const tokenFile = join(dataDir, "nats/token");
    expect((await stat(tokenFile)).mode & 0o777).toBe(0o600);
    expect(await readFile(tokenFile, "utf8")).toBe(tokenOf(server));
    const varz = (await (await fetch(`${server.monitorUrl}/varz`)).json()) as Record<string, unknown>;
    expect(varz).toMatchObject({ host: "127.0.0.1", http_host: "127.0.0.1", max_payload: 1_048_576 });
  });

  test.each([
    ["fsync", true],
    ["fast", undefined],
  ] as const)("DURABILITY=%s is what the server reports", async (durability, expected) => {
    const server = await start(durability);
    const jsz = (await (await fetch(`${server.monitorUrl}/jsz?config=true`)).json()) as { config: object };
    expect(jsz.config).toHaveProperty("sync_interval", 120_000_000_000);
    expect((jsz.config as { sync_always?: boolean }).sync_always).toBe(expected);
  });

  test("a server killed with -9 is told as such, and the next one has its port, token and messages", async () => {
    const first = await start("fsync");
    const connection = await connect(login(first));
    await (await jetstreamManager(connection)).streams.add({ name: "KEPT", subjects: ["kept"] });
    await jetstream(connection).publish("kept", "water");
    process.kill(first.pid, "SIGKILL");
    expect(await first.exited).toEqual({ code: 137, signal: "SIGKILL" });
    await connection.closed();

    const second = await start("fsync", first.port);
    expect(second.url).toBe(first.url);
    const again = await connect(login(second));
    const message = await (await jetstreamManager(again)).streams.getMessage("KEPT", { seq: 1 });
    expect(message?.string()).toBe("water");
    await again.close();
  });

  test("a taken port is named, and nothing is left running", async () => {
    using other = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
    const failure = await start("fsync", other.port).catch((error: unknown) => error);
    expect(failure).toMatchObject({
      code: "port_taken",
      message: expect.stringContaining(`port ${other.port} is taken`),
    });
  });

  test("a binary that is no nats-server ends in one clear line", async () => {
    const failure = startServer({ binary: "/bin/false", dataDir, port: 0, durability: "fsync" });
    expect(failure).rejects.toMatchObject({ code: "broker_unavailable" });
  });

  test("stop() is idempotent and leaves no process of the group", async () => {
    const server = await start("fast");
    const group = await groupOf(server.pid);
    expect(await membersOf(group)).toHaveLength(3);
    await Promise.all([server.stop(), server.stop()]);
    expect(await server.exited).toEqual({ code: 0, signal: null });
    expect(await membersOf(group)).toEqual([]);
  });

  test("it ends when its parent is killed with -9", async () => {
    const script = `const { startServer } = await import(${JSON.stringify(join(import.meta.dir, "server.ts"))});
      const server = await startServer(${JSON.stringify({ binary, dataDir, port: 0, durability: "fsync" })});
      console.log(server.port + " " + server.pid);`;
    await using parent = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe" });
    const [port = 0, pid = 0] = (await firstChunk(parent.stdout)).split(" ").map(Number);
    const group = await groupOf(pid);
    const socket = connectTcp(port, "127.0.0.1");
    const closed = new Promise((resolve) => socket.on("close", resolve).on("error", () => {}));
    await new Promise((resolve) => socket.once("data", resolve));
    parent.kill("SIGKILL");
    await closed;
    // The sockets close a moment before the three processes are gone, of which no event tells: bounded by the test's time.
    while ((await membersOf(group)).length > 0) await new Promise(setImmediate);
    expect(await readFile(join(dataDir, "nats/server.log"), "utf8")).toMatch(/Server Exiting/);
  });
});

describe("resolveServerBinary", () => {
  test("takes what NATS_SERVER_BIN names, and says when it is no program", () => {
    expect(resolveServerBinary("/bin/true")).toBe("/bin/true");
    expect(() => resolveServerBinary("/nowhere/nats-server")).toThrow(/NATS_SERVER_BIN is \/nowhere\/nats-server/);
  });
});

async function firstChunk(stream: ReadableStream<Uint8Array>): Promise<string> {
  for await (const chunk of stream) return Buffer.from(chunk).toString();
  return "";
}

/** The process group of a living process: field 5 of its stat line, where the name before it may hold spaces. */
async function groupOf(pid: number): Promise<number> {
  const line = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  const [state, , group] = line.slice(line.lastIndexOf(")") + 2).split(" ");
  return state === "Z" ? 0 : Number(group ?? 0);
}

async function membersOf(group: number): Promise<number[]> {
  const pids = [...new Bun.Glob("[0-9]*").scanSync({ cwd: "/proc", onlyFiles: false })].map(Number);
  const groups = await Promise.all(pids.map(groupOf));
  return pids.filter((_, index) => groups[index] === group);
}
