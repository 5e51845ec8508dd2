import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { type BoardJob, boardPid, createBoard, HELD_MAX, type HeldJob, readBoard, watchBoard } from "./scoreboard.ts";

let folder = "";
let files = 0;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace board "));
});
afterAll(() => rm(folder, { recursive: true, force: true }));
const freshPath = (): string => join(folder, `actor-${files++}.board`);

const jobOf = (n: number): HeldJob => ({
  ackSubject: `$JS.ACK.JOBS_0.normal_a_echo.1.${n}.${n}.1700000000000000000.0`,
  jobSubject: `millrace.jobs.0.normal.a.${"m".repeat(1 + (n % 60))}.01arz3ndektsv4rrffq69g5fav`,
  attempt: n % 1_000,
  crashes: n % 1_000,
  maxAttempts: n % 1_000,
  deadlineMs: 1_700_000_000_000 + n,
  eventNumber: n,
});
const sorted = (jobs: Iterable<HeldJob>): HeldJob[] =>
  [...jobs].map(told).sort((a, b) => (a.ackSubject < b.ackSubject ? -1 : 1));

/** What the writer said, without what only a reader sees. */
const told = ({ slot: _, fate: __, ...job }: Partial<BoardJob> & HeldJob): HeldJob => job;

/** A process that runs `body` with the module in scope, and answers what it writes to standard output. */
function otherProcess(body: string) {
  const module = JSON.stringify(join(import.meta.dir, "scoreboard.ts"));
  const head = `import { createBoard } from ${module};\nprocess.stdin.resume().on("end", () => process.exit());`;
  return Bun.spawn([process.execPath, "-e", `${head}\n${body}`], {
    stdio: ["pipe", "pipe", "inherit"],
  });
}
async function firstOutput(child: ReturnType<typeof otherProcess>): Promise<string> {
  for await (const chunk of child.stdout) return Buffer.from(chunk).toString();
  return "";
}

describe("a board", () => {
  test("holds what a map would, through any sequence of calls", () => {
    const action = fc.oneof(
      fc.record({ kind: fc.constant("hold" as const), n: fc.nat({ max: 100_000 }) }),
      fc.record({ kind: fc.constant("begin" as const), pick: fc.nat(), n: fc.nat({ max: 100_000 }) }),
      fc.record({ kind: fc.constant("event" as const), pick: fc.nat(), n: fc.nat({ max: 2 ** 32 - 1 }) }),
      fc.record({ kind: fc.constant("release" as const), pick: fc.nat() }),
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        const path = freshPath();
        const board = createBoard(path);
        const model = new Map<number, HeldJob>();
        for (const each of actions) {
          if (each.kind === "hold") {
            const slot = board.hold(jobOf(each.n));
            expect(model.has(slot)).toBe(false);
            model.set(slot, jobOf(each.n));
            continue;
          }
          const slot = [...model.keys()][each.pick % Math.max(1, model.size)];
          const job = slot === undefined ? undefined : model.get(slot);
          if (slot === undefined || !job) continue;
          if (each.kind === "release") {
            board.release(slot);
            model.delete(slot);
          } else if (each.kind === "event") {
            board.setEventNumber(slot, each.n);
            model.set(slot, { ...job, eventNumber: each.n });
          } else {
            const begun = { attempt: each.n, crashes: 1, maxAttempts: 7, deadlineMs: each.n + 0.5 };
            board.begin(slot, begun.attempt, begun.crashes, begun.maxAttempts, begun.deadlineMs);
            model.set(slot, { ...job, ...begun });
          }
        }
        expect(sorted(readBoard(path))).toEqual(sorted(model.values()));
        expect(sorted(watchBoard(path).jobs())).toEqual(sorted(model.values()));
        expect(board.heldCount).toBe(model.size);
      }),
      { numRuns: 60 },
    );
  });

  test("takes as many as it says, then none, and a released slot again", () => {
    const board = createBoard(freshPath());
    const slots = Array.from({ length: HELD_MAX }, (_, n) => board.hold(jobOf(n)));
    expect(new Set(slots).size).toBe(HELD_MAX);
    expect(() => board.hold(jobOf(0))).toThrow(RangeError);
    board.release(7);
    expect(board.hold(jobOf(1))).toBe(7);
  });

  test("refuses subjects that do not fit, and loses no slot by it", () => {
    const path = freshPath();
    const board = createBoard(path);
    for (let i = 0; i < HELD_MAX + 1; i++) {
      expect(() => board.hold({ ...jobOf(1), jobSubject: "é".repeat(300) })).toThrow(RangeError);
    }
    expect([board.heldCount, readBoard(path).length]).toEqual([0, 0]);
    // The longest that there is: a model of 64 characters, all numbers at their largest.
    const most = "18446744073709551615";
    const longest = {
      ...jobOf(1),
      ackSubject: `$JS.ACK.hub.${"A".repeat(44)}.JOBS_63.normal_a_${"m".repeat(64)}.${most}.${most}.${most}.${most}.${most}.abcdefgh`,
      jobSubject: `millrace.jobs.63.normal.a.${"m".repeat(64)}.01arz3ndektsv4rrffq69g5fav`,
    };
    board.hold(longest);
    expect(readBoard(path)).toEqual([{ ...longest, slot: expect.any(Number), fate: "crash" }]);
  });

  test("is private to its user, and a new one forgets the old", async () => {
    const path = freshPath();
    createBoard(path).hold(jobOf(1));
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    createBoard(path);
    expect(readBoard(path)).toEqual([]);
    expect(boardPid(path)).toBe(process.pid);
  });

  test("no board, an empty one, a cut one and one of another kind hold nothing", async () => {
    const path = freshPath();
    expect([readBoard(path), boardPid(path)]).toEqual([[], null]);
    for (const content of ["", "short", "x".repeat(5_000)]) {
      await writeFile(path, content);
      expect([readBoard(path), boardPid(path)]).toEqual([[], null]);
    }
    createBoard(path).hold(jobOf(1));
    await truncate(path, 64 + 100);
    expect(readBoard(path)).toEqual([]);
  });
});

describe("another process", () => {
  test("reads what was held after kill -9 of the writer", async () => {
    const path = freshPath();
    const held = [1, 2, 3].map(jobOf);
    const child = otherProcess(`
      const board = createBoard(${JSON.stringify(path)});
      const slots = ${JSON.stringify([...held, jobOf(4)])}.map((job) => board.hold(job));
      board.release(slots[3]);
      board.begin(slots[0], 5, 1, 9, 123.5);
      board.setEventNumber(slots[0], 42);
      console.log("ready");`);
    expect(await firstOutput(child)).toBe("ready\n");
    child.kill("SIGKILL");
    await child.exited;
    const begun = { attempt: 5, crashes: 1, maxAttempts: 9, deadlineMs: 123.5, eventNumber: 42 };
    expect(sorted(readBoard(path))).toEqual(sorted([{ ...jobOf(1), ...begun }, jobOf(2), jobOf(3)]));
    expect(boardPid(path)).toBe(child.pid);
  });

  test("never sees half of a job while slots are taken, begun and released as fast as can be", async () => {
    const path = freshPath();
    const child = otherProcess(`
      const board = createBoard(${JSON.stringify(path)});
      const jobOf = ${jobOf.toString()};
      console.log("ready");
      for (let n = 1, end = Date.now() + 5_000; Date.now() < end; n = (n + 1) % 100000) {
        const slot = board.hold(jobOf(n));
        const m = (n * 7) % 1000;
        board.begin(slot, m, m, m, 1_700_000_000_000 + m);
        board.release(slot);
      }
      process.exit();`);
    expect(await firstOutput(child)).toBe("ready\n");
    const watched = watchBoard(path);
    const torn: HeldJob[] = [];
    let seen = 0;
    for (const deadline = performance.now() + 1_500; performance.now() < deadline; ) {
      for (const job of watched.jobs().map(told)) {
        seen++;
        const n = Number(job.ackSubject.split(".")[5]);
        const held = jobOf(n);
        const m = (n * 7) % 1_000;
        const begun = { ...held, attempt: m, crashes: m, maxAttempts: m, deadlineMs: 1_700_000_000_000 + m };
        if (!Bun.deepEquals(job, held) && !Bun.deepEquals(job, begun)) torn.push(job);
      }
    }
    child.kill("SIGKILL");
    await child.exited;
    expect(seen).toBeGreaterThan(100);
    expect(torn.slice(0, 3)).toEqual([]);
  });
});
