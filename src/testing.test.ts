// The suite has to catch what it is for: each of these runners breaks one rule.
import { describe, expect, test } from "bun:test";
import { AppError } from "./errors.ts";
import { type AnyRunner, defineRunner } from "./registry/define.ts";
import { file, t } from "./sdk.ts";
import { type ConformanceOptions, runnerConformance, testRunner } from "./testing.ts";

const base = {
  name: "probe",
  version: "1.0.0",
  summary: "A test.",
  input: t.Object({ url: t.String() }),
  output: t.Object({ size: t.Integer(), copy: file("text/plain") }),
  example: { url: "https://example.com/a" },
};
const files = { "https://example.com/a": new Uint8Array(3), "https://example.com/b": new Uint8Array(7) };

const sizes = defineRunner({
  ...base,
  prepare: (input, ctx) => ctx.fetchInput(input.url),
  infer: ({ bytes }, ctx) => {
    ctx.progress(0.5, `for ${ctx.task.metadata.who}`);
    ctx.emit({ attempt: ctx.task.attempt });
    return bytes;
  },
  postprocess: (bytes, ctx) => ({ size: bytes.length, copy: ctx.file(bytes, "text/plain") }),
});

test("testRunner shows all that a run gives", async () => {
  const run = await testRunner(sizes, { input: base.example, metadata: { who: "me" }, attempt: 2, files });
  expect(run).toMatchObject({
    output: { size: 3 },
    files: [{ path: "/s3_key", file: { bytes: new Uint8Array(3), contentType: "text/plain" } }],
    progress: [{ fraction: 0.5, message: "for me" }],
    deltas: [{ attempt: 2 }],
  });
});

test("testRunner throws what the task would end with", async () => {
  const failed = testRunner(sizes, { input: { url: "https://elsewhere.example/" }, files });
  await expect(failed).rejects.toMatchObject({ name: "RunnerError", code: "fetch_blocked", retryable: false });
  const stopped = testRunner(sizes, { input: base.example, signal: AbortSignal.abort(), files });
  await expect(stopped).rejects.toMatchObject({ code: "aborted" });
});

async function failing(definition: AnyRunner, options: ConformanceOptions): Promise<string[]> {
  const failed: string[] = [];
  for (const { name, run } of runnerConformance(definition, options)) {
    await run().catch(() => failed.push(name.replace("probe: ", "")));
  }
  return failed;
}

describe("the suite", () => {
  const options = { files, inputs: Object.keys(files).map((url) => ({ url })), abortMsMax: 20 };
  const broken = (change: object): AnyRunner => ({ ...sizes, ...change });

  test("passes a good runner", async () => {
    expect(await failing(sizes, options)).toEqual([]);
  });

  test("sees an abort that nobody heeds", async () => {
    const deaf = defineRunner({
      ...base,
      prepare: (_input, ctx) => ctx.signal,
      // Never ends once it was aborted; other attempts go through.
      infer: async (signal) => {
        await new Promise((resolve) => setImmediate(resolve));
        return signal.aborted ? new Promise<number>(() => {}) : 1;
      },
      postprocess: (size, ctx) => ({ size, copy: ctx.file(new Uint8Array(), "text/plain") }),
    });
    expect(await failing(deaf, options)).toEqual(["ends soon after an abort"]);
  });

  test("sees tasks that mix", async () => {
    const mixed = defineRunner({
      ...base,
      batch: { max: 2, waitMs: 1 },
      prepare: (input) => input.url.length,
      inferBatch: (items, contexts) => (items.length === 1 ? items : contexts.map((_, i) => i)),
      postprocess: (size, ctx) => ({ size, copy: ctx.file(new Uint8Array(), "text/plain") }),
    });
    expect(await failing(mixed, options)).toEqual(["keeps tasks side by side apart"]);
  });

  test("sees an output that breaks its schema", async () => {
    expect(await failing(broken({ postprocess: () => ({ size: "3" }) }), options)).toContain(
      "answers every valid input with a valid output",
    );
  });

  test("sees a missing example and a bad state of health", async () => {
    const ill = () => {
      throw new AppError("not_ready", "no GPU");
    };
    expect(await failing(broken({ health: ill }), options)).toEqual(["has an example and is healthy"]);
    const { example: _example, ...rest } = sizes;
    expect(await failing(rest, options)).toContain("has an example and is healthy");
  });

  test("sees a second load that fails", async () => {
    let loads = 0;
    const once = broken({
      load: () => {
        loads += 1;
        if (loads > 6) throw new Error("the device is taken");
      },
    });
    expect(await failing(once, options)).not.toEqual([]);
  });
});
