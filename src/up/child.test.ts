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

const uncounted = { died: () => {}, running: () => {} };

/** A child that runs `script`; `restarted` resolves at the next restart. */
function child(script: string, onDeath?: () => Promise<void>) {
  const restarted = Promise.withResolvers<object>();
  const deaths: object[] = [];
  const log: Log = {
    ...silentLog,
    warn: (fields, message) => message === "a child process died" && deaths.push(fields),
    info: (fields, message) => message === "starting it again" && restarted.resolve(fields),
  };
  const kept = keepAlive(
    {
      name: "test",
      command: [process.execPath, "-e", script],
      env: () => process.env,
      ...(onDeath ? { onDeath } : {}),
    },
    { log, clock: systemClock, random: () => 0, records: processRecords(dataDir), counts: uncounted },
  );
  children.push(kept);
  return { kept, restarted: restarted.promise, deaths };
}

const ready = `process.send({ type: "ready", url: "http://here" });`;
const serving = `process.on("SIGTERM", () => process.exit(0)); ${ready} setInterval(() => {}, 1e6);`;
const stubborn = `process.on("SIGTERM", () => {}); ${ready} setInterval(() => {}, 1e6);`;

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
      await new Promise(setImmediate);
      order.push(`handed over, pid ${kept.pid}`);
    });
    await kept.ready;
    process.kill(kept.pid ?? 0, "SIGKILL");
    expect(await restarted).toMatchObject({ process: "test", failures: 1, delay_ms: 100 });
    expect(order).toEqual(["handed over, pid null"]);
    expect(deaths).toMatchObject([{ signal: "SIGKILL" }]);
  });

  test("hands on why a child refuses to start", async () => {
    const { kept } = child(`process.send({ type: "failed", code: "port_taken", message: "port 8000 is taken" });`);
    expect(kept.ready).rejects.toMatchObject({ code: "port_taken", message: "port 8000 is taken" });
    await kept.ready.catch(() => {});
  });

  test.each([
    ["without a reason", ""],
    ["with a reason that is none of ours", `process.send({ type: "failed", code: "nonsense", message: "no" });`],
  ])("a death %s before it is ready is tried again", async (_, told) => {
    const { kept, restarted, deaths } = child(`${told} process.exitCode = 3;`);
    const refused = kept.ready.catch(() => "refused");
    await restarted;
    expect(deaths).toMatchObject([{ code: 3 }]);
    expect(await Promise.race([refused, "not yet"])).toBe("not yet");
  });

  test("a child that never gets ready is given up by who waits for it", async () => {
    const { kept, deaths } = child("process.exitCode = 3;");
    expect(kept.ready).rejects.toMatchObject({
      code: "not_ready",
      message: "test died 5 times before it was ready (last: exit code 3); what it printed stands above",
    });
    await kept.ready.catch(() => {});
    expect(deaths).toHaveLength(5);
  });

  test("kills a child that does not stop in its grace, and at once when forced", async () => {
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
    const { kept } = child(`process.send({ type: "other" }); process.send("x"); process.send(null); ${serving}`);
    expect(await kept.ready).toMatchObject({ url: "http://here" });
  });
});
