import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../clock.ts";
import type { Log } from "../log.ts";
import { silentLog } from "../log.ts";
import { type Child, keepAlive } from "./child.ts";
import { processRecords } from "./leftovers.ts";

let dataDir = "";
const children: Child[] = [];
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "millrace child "));
});
afterEach(async () => {
  for (const child of children.splice(0)) await child.stop(0, AbortSignal.abort());
  await rm(dataDir, { recursive: true, force: true });
});

/** A child that runs `script` as a service; `restarted` resolves at the next restart. */
function child(script: string, onDeath?: () => Promise<void>) {
  const restarted = Promise.withResolvers<object>();
  const deaths: object[] = [];
  const log: Log = {
    ...silentLog,
    warn: (fields, message) => message === "a child process died" && deaths.push(fields),
    info: (fields, message) => message === "starting it again" && restarted.resolve(fields),
  };
  const service = JSON.stringify(join(import.meta.dir, "service.ts"));
  const errors = JSON.stringify(join(import.meta.dir, "../errors.ts"));
  const code = `const { serve } = await import(${service}); const { AppError } = await import(${errors});
    const { silentLog } = await import(${JSON.stringify(join(import.meta.dir, "../log.ts"))});
    ${script}`;
  const kept = keepAlive(
    { name: "test", command: [process.execPath, "-e", code], env: process.env, ...(onDeath ? { onDeath } : {}) },
    { log, clock: systemClock, random: () => 0, records: processRecords(dataDir) },
  );
  children.push(kept);
  return { kept, restarted: restarted.promise, deaths };
}

const serving = `await serve(async () => ({ url: "http://here", stop: async () => {} }), silentLog); process.exit(0);`;

describe("keepAlive", () => {
  test("tells what the ready child says of itself, and stops it in order", async () => {
    const { kept, deaths } = child(serving);
    expect(await kept.ready).toMatchObject({ url: "http://here" });
    const pid = kept.pid ?? 0;
    await Promise.all([
      kept.stop(10_000, new AbortController().signal),
      kept.stop(10_000, new AbortController().signal),
    ]);
    expect(() => process.kill(pid, 0)).toThrow("ESRCH");
    expect(kept.pid).toBeNull();
    expect(deaths).toEqual([]);
  });

  test("starts again what was killed, after the hand-over and not before", async () => {
    const order: string[] = [];
    const { kept, restarted, deaths } = child(serving, async () => {
      order.push(`handed over, pid ${kept.pid}`);
    });
    await kept.ready;
    const pid = kept.pid ?? 0;
    process.kill(pid, "SIGKILL");
    expect(await restarted).toMatchObject({ process: "test", failures: 1, delay_ms: 100 });
    expect(order).toEqual(["handed over, pid null"]);
    expect(deaths).toMatchObject([{ signal: "SIGKILL" }]);
  });

  test("hands on why a child refuses to start", async () => {
    const { kept } = child(
      `await serve(async () => { throw new AppError("port_taken", "port 8000 is taken"); }, silentLog);`,
    );
    expect(kept.ready).rejects.toMatchObject({ code: "port_taken", message: "port 8000 is taken" });
    await kept.ready.catch(() => {});
  });

  test("a death without a reason before it is ready is tried again", async () => {
    const { restarted, deaths } = child("process.exit(3);");
    await restarted;
    expect(deaths).toMatchObject([{ code: 3 }]);
  });

  test("kills a child that does not stop in its grace, and at once when forced", async () => {
    const stubborn = `await serve(async () => ({ stop: () => new Promise(() => {}) }), silentLog);`;
    const first = child(stubborn);
    await first.kept.ready;
    await first.kept.stop(50, new AbortController().signal);
    expect(first.kept.pid).toBeNull();

    const second = child(stubborn);
    await second.kept.ready;
    const force = new AbortController();
    const stopped = second.kept.stop(600_000, force.signal);
    force.abort();
    await stopped;
    expect(second.kept.pid).toBeNull();
  });

  test("ignores what a plugin sends on the channel", async () => {
    const { kept } = child(
      `process.send({ type: "failed", code: "nonsense" }); process.send("x"); process.send(null); ${serving}`,
    );
    expect(await kept.ready).toMatchObject({ url: "http://here" });
  });
});

describe("serve", () => {
  test("ends at once when the supervisor is killed", async () => {
    const script = `const child = Bun.spawn([process.execPath, "-e", ${JSON.stringify(
      `const { serve } = await import(${JSON.stringify(join(import.meta.dir, "service.ts"))});
       const log = { error() {}, warn() {}, info() {}, debug() {}, child: () => log };
       await serve(async () => ({ stop: () => new Promise(() => {}) }), log);`,
    )}], { detached: true, stdout: "inherit", serialization: "json", ipc() { console.log("ready"); } });
      await child.exited;`;
    await using supervisor = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe" });
    const reader = supervisor.stdout.getReader();
    await reader.read();
    supervisor.kill("SIGKILL");
    // Both hold this pipe: its end says that both are gone.
    expect((await reader.read()).done).toBe(true);
  });
});
