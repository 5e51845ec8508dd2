import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Type as t } from "@sinclair/typebox";
import { folderBlobs } from "../blobs/folder.ts";
import { systemClock } from "../clock.ts";
import { AppError } from "../errors.ts";
import { type Log, silentLog } from "../log.ts";
import type { RunnerJob } from "./context.ts";
import { type AnyRunner, defineRunner, type RunnerContext, RunnerError } from "./define.ts";
import { file } from "./file.ts";
import { type Execution, type LoadOptions, loadRunner } from "./stages.ts";

let root = "";
let options: LoadOptions;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "millrace-stages-"));
  options = {
    log: silentLog,
    gpu: "3",
    blobs: folderBlobs(root),
    clock: systemClock,
    fetchInput: (url) => Promise.reject(new AppError("fetch_blocked", `no ${url}`)),
    readImage: () => Promise.reject(new AppError("image_unreadable", "no picture")),
  };
});
afterAll(() => rm(root, { recursive: true, force: true }));

const base = {
  name: "probe",
  version: "1.0.0",
  summary: "A test.",
  input: t.Object({ n: t.Integer() }),
  output: t.Object({ n: t.Integer() }),
};

/** A runner that doubles, with a hook in one of its stages. */
const hooked = (at: "prepare" | "infer" | "postprocess", hook: (ctx: RunnerContext<undefined>) => unknown): AnyRunner =>
  defineRunner({
    ...base,
    prepare: async (input, ctx) => {
      if (at === "prepare") await hook(ctx);
      return input.n;
    },
    infer: async (n, ctx) => {
      if (at === "infer") await hook(ctx);
      return n * 2;
    },
    postprocess: async (n, ctx) => {
      if (at === "postprocess") await hook(ctx);
      return { n };
    },
  });

const job = (change: Partial<RunnerJob> = {}): RunnerJob => ({
  task: { id: "0".repeat(26), model: "probe", ownerId: "test", attempt: 1, metadata: {} },
  signal: new AbortController().signal,
  log: silentLog,
  readFile: () => Promise.reject(new Error("no file is read here")),
  onProgress: () => {},
  onDelta: () => {},
  earlierDeltas: [],
  onReset: () => {},
  ...change,
});

const run = async (
  definition: AnyRunner,
  change: Partial<RunnerJob> = {},
  input: unknown = { n: 2 },
): Promise<Execution> => (await loadRunner(definition, options)).execute(input, job(change));

const outputting = (output: unknown): AnyRunner =>
  defineRunner({ ...base, output: t.Unknown(), prepare: () => 0, infer: () => 0, postprocess: () => output });

const fails = (code: string, stage: string, retryable: boolean) => ({ ok: false, error: { code, stage, retryable } });

test("three stages make one output", async () => {
  const execution = await run(hooked("infer", () => {}));
  expect(execution).toMatchObject({ ok: true, output: { n: 4 }, json: '{"n":4}', files: [] });
});

describe("stages", () => {
  for (const stage of ["prepare", "infer", "postprocess"] as const) {
    test(`${stage}: its error carries its name and its time`, async () => {
      const error = new RunnerError("no_luck", "No luck", { retryable: false });
      const thrower = hooked(stage, async () => {
        await new Promise((resolve) => setImmediate(resolve));
        throw error;
      });
      const execution = await run(thrower);
      expect(execution).toMatchObject(fails("no_luck", stage, false));
      expect(execution.timing[`${stage}Ms`]).toBeGreaterThan(0);
    });

    test(`${stage}: an abort ends the attempt as aborted`, async () => {
      const controller = new AbortController();
      const stopped = hooked(stage, (ctx) => {
        controller.abort();
        ctx.signal.throwIfAborted();
      });
      expect(await run(stopped, { signal: controller.signal })).toMatchObject({
        ok: false,
        error: { code: "aborted", stage },
      });
    });
  }

  test("nothing begins once the signal has fired", async () => {
    let begun = false;
    const eager = hooked("prepare", () => {
      begun = true;
    });
    expect(await run(eager, { signal: AbortSignal.abort() })).toMatchObject(fails("aborted", "prepare", true));
    expect(begun).toBe(false);
  });

  test("a stage that heeds no abort is the last one", async () => {
    const controller = new AbortController();
    let reached = false;
    const deaf = defineRunner({
      ...base,
      prepare: () => controller.abort(),
      infer: () => {
        reached = true;
      },
      postprocess: () => ({ n: 1 }),
    });
    expect(await run(deaf, { signal: controller.signal })).toMatchObject(fails("aborted", "prepare", true));
    expect(reached).toBe(false);
  });

  test("an unknown error is logged with its stack, answered without", async () => {
    const lines: object[] = [];
    const log: Log = { ...silentLog, error: (fields) => lines.push(fields) };
    const execution = await run(
      hooked("infer", () => Promise.reject(new TypeError("x is not a function"))),
      { log },
    );
    expect(execution).toMatchObject({ ok: false, error: { code: "runner_failed", message: "x is not a function" } });
    expect(JSON.stringify(lines)).toContain("stages.test.ts");
  });

  test("an input that the schema refuses is not run", async () => {
    expect(
      await run(
        hooked("infer", () => {}),
        {},
        { n: "x" },
      ),
    ).toMatchObject(fails("invalid_input", "prepare", false));
  });

  test("what the host throws keeps its code", async () => {
    const fetches = hooked("prepare", (ctx) => ctx.fetchInput("http://10.0.0.1/"));
    expect(await run(fetches)).toMatchObject(fails("fetch_blocked", "prepare", false));
  });
});

describe("outputs", () => {
  test("are checked against the schema, closed", async () => {
    const wrong = { ...hooked("infer", () => {}), postprocess: () => ({ n: 1, extra: true }) } as AnyRunner;
    const execution = await run(wrong);
    expect(execution).toMatchObject(fails("invalid_output", "output", false));
    expect(execution.ok || execution.error.message).toContain("/extra is not a known field");
  });

  const cycle: unknown[] = [];
  cycle.push(cycle);
  for (const [name, value] of [
    ["a cycle", cycle],
    ["a bigint", 1n],
    ["nothing", undefined],
    ["a function", () => 1],
  ] as const) {
    test(`${name} is no JSON`, async () => {
      expect(await run(outputting(value))).toMatchObject(fails("invalid_output", "output", false));
    });
  }

  test("what a model writes is not held to the limits on what clients send", async () => {
    expect(await run(outputting({ text: "a\0b" }))).toMatchObject({ ok: true, json: '{"text":"a\\u0000b"}' });
  });

  const picture = (contentType: string): AnyRunner =>
    defineRunner({
      ...base,
      output: t.Object({ image: file("image/png"), n: t.Integer() }),
      prepare: () => new Uint8Array([1, 2, 3]),
      infer: (bytes) => bytes,
      postprocess: (bytes, ctx) => ({ image: ctx.file(bytes, contentType), n: 1 }),
    });

  test("files are taken out, with the place of their key", async () => {
    expect(await run(picture("image/png"))).toMatchObject({
      ok: true,
      json: '{"n":1}',
      files: [{ path: "/s3_key", file: { contentType: "image/png", bytes: new Uint8Array([1, 2, 3]) } }],
    });
  });

  test("files of another type are refused", async () => {
    expect(await run(picture("image/jpeg"))).toMatchObject(fails("invalid_output", "output", false));
  });
});

describe("what streams out", () => {
  test("deltas as JSON in order, none after the end", async () => {
    const deltas: string[] = [];
    let late: RunnerContext<undefined> | undefined;
    const emitter = hooked("infer", (ctx) => {
      late = ctx;
      ctx.emit("a\nb");
      ctx.emit({ n: 1 });
    });
    await run(emitter, { onDelta: (json) => deltas.push(json) });
    late?.emit("late");
    late?.progress(1);
    expect(deltas).toEqual(['"a\\nb"', '{"n":1}']);
  });

  test("what an earlier attempt sent is followed on, or taken back before the first delta", async () => {
    const seen: string[] = [];
    const sinks = { onDelta: (json: string) => seen.push(json), onReset: () => seen.push("reset") };
    const emits = hooked("infer", (ctx) => {
      ctx.emit("a");
      ctx.emit("b");
    });
    const goesOn = hooked("infer", async (ctx) => {
      ctx.continueDeltas();
      for (const delta of [...(await ctx.earlierDeltas()), "end"]) ctx.emit(delta);
    });
    for (const [runner, earlierDeltas, expected] of [
      [emits, [], ['"a"', '"b"']],
      [emits, ["x"], ["reset", '"a"', '"b"']],
      [emits, null, ["reset", '"a"', '"b"']],
      [goesOn, ["x"], ['"x"', '"end"']],
      [goesOn, null, ["reset", '"end"']], // there is nothing known to go on from
      [hooked("infer", () => {}), ["x"], []],
    ] as const) {
      seen.length = 0;
      await run(runner, { ...sinks, earlierDeltas });
      expect(seen).toEqual([...expected]);
    }
  });

  test("what is held is sent before the end", async () => {
    const deltas: string[] = [];
    const emits = hooked("infer", (ctx) => {
      for (const word of ["a", "b", "c"]) ctx.emit(word, (earlier, later) => earlier + later);
    });
    await run(emits, { onDelta: (json) => deltas.push(json) });
    expect(deltas).toEqual(['"a"', '"bc"']);
  });

  test("a delta has its limit", async () => {
    expect(await run(hooked("infer", (ctx) => ctx.emit("ü".repeat(16_383))))).toMatchObject({ ok: true });
    const large = hooked("infer", (ctx) => ctx.emit("ü".repeat(16_384)));
    expect(await run(large)).toMatchObject(fails("delta_too_large", "infer", false));
    expect(await run(hooked("infer", (ctx) => ctx.emit(1n)))).toMatchObject(fails("invalid_delta", "infer", false));
  });

  test("the last progress comes before the end", async () => {
    const seen: number[] = [];
    const reporter = hooked("infer", (ctx) => {
      for (let i = 1; i <= 50; i++) ctx.progress(i / 50);
    });
    await run(reporter, { onProgress: (fraction) => seen.push(fraction) });
    expect(seen).toEqual([1 / 50, 1]);
  });
});

describe("loading", () => {
  test("load runs once and its state reaches every stage", async () => {
    let loads = 0;
    const stateful = defineRunner({
      ...base,
      load: (ctx) => {
        loads += 1;
        return { factor: Number(ctx.gpu) };
      },
      health: (state) => {
        if (state.factor === 4) throw new Error("GPU lost");
      },
      unload: (state) => {
        state.factor = 0;
      },
      prepare: (input, ctx) => input.n * ctx.state.factor,
      infer: (n, ctx) => {
        ctx.state.factor = 4;
        return n;
      },
      postprocess: (n) => ({ n }),
    });
    const runner = await loadRunner(stateful, options);
    expect(await runner.health()).toBeNull();
    expect(await runner.execute({ n: 2 }, job())).toMatchObject({ ok: true, output: { n: 6 } });
    expect(await runner.health()).toBe("GPU lost");
    expect(loads).toBe(1);
    await runner.unload();
    expect(await runner.execute({ n: 2 }, job())).toMatchObject({ ok: true, output: { n: 0 } });
  });

  const with_ = (change: object): AnyRunner => ({ ...hooked("infer", () => {}), ...change });
  test("a load that throws or never ends", async () => {
    const unavailable = (message: string) =>
      expect.objectContaining({ code: "runner_unavailable", message: expect.stringContaining(message) });
    const throws = with_({ load: () => Promise.reject(new Error("no weights")) });
    await expect(loadRunner(throws, options)).rejects.toEqual(unavailable("no weights"));
    const hangs = with_({ load: () => new Promise(() => {}) });
    await expect(loadRunner(hangs, { ...options, loadMsMax: 1 })).rejects.toEqual(
      unavailable("did not end within 1 ms"),
    );
  });

  test("an example that the input refuses", async () => {
    const invalid = expect.objectContaining({ code: "invalid_runner" });
    await expect(loadRunner(with_({ example: { n: "x" } }), options)).rejects.toEqual(invalid);
  });

  test("the description is plain, closed JSON with the defaults", async () => {
    const { description } = await loadRunner(with_({ example: { n: 1 } }), options);
    expect(JSON.parse(JSON.stringify(description))).toEqual(description);
    expect(description).toMatchObject({ name: "probe", slots: 1, timeoutMs: 300_000, maxAttempts: 3, sdk: 1 });
    expect(description.inputSchema).toMatchObject({ additionalProperties: false, required: ["n"] });
  });
});

test("a runner that batches answers each task with its own", async () => {
  const sizes: number[] = [];
  const batching = defineRunner({
    ...base,
    batch: { max: 4, waitMs: 5 },
    prepare: (input) => input.n,
    inferBatch: (items) => {
      sizes.push(items.length);
      return items.map((n) => n * 10);
    },
    postprocess: (n) => ({ n }),
  });
  const runner = await loadRunner(batching, options);
  expect(runner.description.slots).toBe(4);
  const executions = await Promise.all([1, 2, 3, 4, 5].map((n) => runner.execute({ n }, job())));
  expect(executions.map((execution) => execution.ok && execution.json)).toEqual(
    [1, 2, 3, 4, 5].map((n) => `{"n":${n * 10}}`),
  );
  expect(sizes).toEqual([4, 1]);
});
