// For the tests of runners and plugins, as "millrace/testing": runs one without a broker, and the suite that each of
// them has to pass. It knows no test framework: a check throws when it fails. Production code never imports it.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { folderBlobs } from "./blobs/folder.ts";
import { systemClock } from "./clock.ts";
import { withDeadline } from "./deadline.ts";
import { AppError } from "./errors.ts";
import { randomTaskId } from "./ids.ts";
import { openAiClient } from "./llm/client.ts";
import type { FetchMedia } from "./llm/media.ts";
import { type OneServer, openOneServer } from "./llm/one-server.ts";
import { silentLog } from "./log.ts";
import type { RunnerJob } from "./registry/context.ts";
import { type AnyRunner, RunnerError, type RunnerTask } from "./registry/define.ts";
import type { OutputFile } from "./registry/file.ts";
import { readImage } from "./registry/image.ts";
import { type Execution, type LoadedRunner, loadRunner, type StageTiming } from "./registry/stages.ts";

export interface TestRunOptions {
  readonly input: unknown;
  readonly metadata?: Readonly<Record<string, string>>;
  /** Default 1, the first. */
  readonly attempt?: number;
  readonly signal?: AbortSignal;
  /** What earlier attempts have sent, as `ctx.earlierDeltas` finds it. Default: nothing. */
  readonly earlierDeltas?: readonly unknown[];
  /** What `ctx.fetchInput` and pictures find, by URL; any other URL is `fetch_blocked`. Nothing leaves the machine. */
  readonly files?: Readonly<Record<string, Uint8Array>>;
  /** The server that `ctx.llm` calls, such as the simulator's; without it `ctx.llm` is `model_unavailable`. */
  readonly llm?: TestLlm;
}

export interface TestLlm {
  /** Such as `http://127.0.0.1:8001`; `/v1` is added where the path is empty. */
  readonly baseUrl: string;
}

export interface TestRun {
  /** What `postprocess` returned, without its files. */
  readonly output: unknown;
  readonly files: readonly OutputFile[];
  readonly timing: StageTiming;
  readonly progress: readonly { readonly fraction: number; readonly message: string | undefined }[];
  /** What was emitted, in order. */
  readonly deltas: readonly unknown[];
  /** Watchers were told to forget what earlier attempts had sent. */
  readonly reset: boolean;
}

/**
 * Loads the runner with a store in a temporary folder, runs one attempt and unloads it. Throws a RunnerError with the
 * code that the task would end with (`aborted` when `signal` fired).
 */
export async function testRunner(definition: AnyRunner, options: TestRunOptions): Promise<TestRun> {
  return await withRunner(definition, options, async (runner) => {
    const progress: { fraction: number; message: string | undefined }[] = [];
    const deltas: unknown[] = [];
    let reset = false;
    const execution = await execute(runner, options, {
      onProgress: (fraction: number, message?: string) => progress.push({ fraction, message }),
      onDelta: (json: string) => deltas.push(JSON.parse(json)),
      onReset: () => {
        reset = true;
      },
    });
    if (!execution.ok) {
      const { code, message, retryable } = execution.error;
      throw new RunnerError(code, message, { retryable });
    }
    const { output, files, timing } = execution;
    return { output, files, timing, progress, deltas, reset };
  });
}

async function withRunner<T>(
  definition: AnyRunner,
  { files = {}, llm }: Pick<TestRunOptions, "files" | "llm">,
  use: (runner: LoadedRunner) => Promise<T>,
): Promise<T> {
  const server = llm ? await openOneServer(llm.baseUrl) : null;
  const folder = await mkdtemp(join(tmpdir(), "millrace-runner-"));
  const fetchInput = async (url: string) => {
    const bytes = Object.hasOwn(files, url) ? files[url] : undefined;
    if (!bytes) throw new AppError("fetch_blocked", "The test names no content for this URL in `files`");
    return { bytes, contentType: "", url };
  };
  try {
    const runner = await loadRunner(definition, {
      log: silentLog,
      gpu: "0",
      blobs: folderBlobs(folder),
      clock: systemClock,
      fetchInput,
      ...(server && { openLlm: ({ task, signal }) => openTestClient(server, fetchInput, task, signal) }),
      readImage: (input, { readFile }) => readImage(input, { fetch: fetchInput, readFile }),
    });
    try {
      return await use(runner);
    } finally {
      await runner.unload();
    }
  } finally {
    server?.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

const openTestClient = (
  { caller, models }: OneServer,
  fetchMedia: FetchMedia,
  { id, ownerId }: RunnerTask,
  signal: AbortSignal,
) => openAiClient({ caller, models, fetchMedia, identity: { keyId: ownerId, requestId: id }, signal });

type Sinks = Pick<RunnerJob, "onProgress" | "onDelta" | "onReset">;

const IGNORED: Sinks = { onProgress: () => {}, onDelta: () => {}, onReset: () => {} };

function execute(
  runner: LoadedRunner,
  options: Pick<TestRunOptions, "input" | "metadata" | "attempt" | "signal" | "earlierDeltas">,
  sinks: Sinks = IGNORED,
): Promise<Execution> {
  return runner.execute(options.input, {
    earlierDeltas: options.earlierDeltas ?? [],
    task: {
      id: randomTaskId(Date.now()),
      model: runner.definition.name,
      ownerId: "test",
      attempt: options.attempt ?? 1,
      metadata: options.metadata ?? {},
    },
    signal: options.signal ?? new AbortController().signal,
    log: silentLog,
    readFile: () => Promise.reject(new AppError("file_not_found", "A test has no uploaded files; give the bytes")),
    ...sinks,
  });
}

export interface ConformanceOptions {
  /** Valid inputs with different answers, to see that tasks do not mix. Default: the example alone. */
  readonly inputs?: readonly unknown[];
  /** False for a runner whose answers differ from run to run: they are then not compared. Default true. */
  readonly deterministic?: boolean;
  /** Time from an abort to the end of the attempt. Default 5,000. */
  readonly abortMsMax?: number;
  readonly files?: Readonly<Record<string, Uint8Array>>;
  /** The server that `ctx.llm` calls. */
  readonly llm?: TestLlm;
}

export interface ConformanceCheck {
  readonly name: string;
  /** Rejects when the runner does not conform. */
  readonly run: () => Promise<void>;
}

/**
 * What every runner keeps to: a valid example, bad input refused, abort obeyed, tasks side by side not mixed (in order
 * where it batches), loading twice. `for (const { name, run } of runnerConformance(runner)) test(name, run);`
 */
export function runnerConformance(
  definition: AnyRunner,
  options: ConformanceOptions = {},
): readonly ConformanceCheck[] {
  const inputs = options.inputs ?? [definition.example];
  const check = (name: string, run: (runner: LoadedRunner) => Promise<void>): ConformanceCheck => ({
    name: `${definition.name}: ${name}`,
    run: () => withRunner(definition, options, run),
  });
  return [
    check("has an example and is healthy", async (runner) => {
      assert.notEqual(definition.example, undefined, "a runner has an example");
      assert.equal(await runner.health(), null);
    }),
    check("answers every valid input with a valid output", async (runner) => {
      for (const input of [definition.example, ...inputs]) succeeded(await execute(runner, { input }));
    }),
    check("refuses bad input", async (runner) => {
      for (const input of badInputs(runner)) {
        const execution = await execute(runner, { input });
        const text = JSON.stringify(input)?.slice(0, 200);
        assert.equal(execution.ok ? "ok" : execution.error.code, "invalid_input", `the input ${text} passed`);
      }
    }),
    check("does not begin when the signal has fired", async (runner) => {
      const execution = await execute(runner, { input: inputs[0], signal: AbortSignal.abort() });
      assert.equal(execution.ok ? "ok" : execution.error.code, "aborted");
    }),
    check("ends soon after an abort", async (runner) => {
      const controller = new AbortController();
      const running = execute(runner, { input: inputs[0], signal: controller.signal });
      controller.abort();
      const abortMsMax = options.abortMsMax ?? 5_000;
      const late = (): Error => new Error(`the attempt went on for ${abortMsMax} ms after its abort`);
      const execution = await withDeadline(running, abortMsMax, late);
      if (!execution.ok) assert.equal(execution.error.code, "aborted");
    }),
    check("keeps tasks side by side apart", async (runner) => {
      const alone = new Map<unknown, unknown>();
      for (const input of inputs) alone.set(input, succeeded(await execute(runner, { input })));
      const count = Math.max(2, inputs.length, runner.description.slots);
      const sideBySide = Array.from({ length: count }, (_, i) => inputs[i % inputs.length]);
      const executions = await Promise.all(sideBySide.map((input) => execute(runner, { input })));
      for (const [i, execution] of executions.entries()) {
        const answer = succeeded(execution);
        if (options.deterministic !== false) assert.deepEqual(answer, alone.get(sideBySide[i]));
      }
    }),
    {
      name: `${definition.name}: loads again after unload`,
      run: async () => {
        const use = (runner: LoadedRunner) => execute(runner, { input: inputs[0] });
        for (let time = 1; time <= 2; time++) succeeded(await withRunner(definition, options, use));
      },
    },
  ];
}

/** Output and files of an execution, to be compared; throws when it failed. */
function succeeded(execution: Execution): unknown {
  if (!execution.ok) assert.fail(`${execution.error.stage}: ${execution.error.code}: ${execution.error.message}`);
  return { output: JSON.parse(execution.json), files: execution.files };
}

/** Variations of the example that no schema may take, and those that this one says it does not take. */
function badInputs(runner: LoadedRunner): readonly unknown[] {
  const { example, inputSchema } = runner.description;
  const bad: unknown[] = ["\0", JSON.parse('{"__proto__":{}}')];
  if (typeof example !== "object" || example === null || Array.isArray(example)) return bad;
  bad.push({ ...example, "nul\0": 1 });
  const { required, additionalProperties, unevaluatedProperties, type }: Record<string, unknown> = { ...inputSchema };
  if (type === "object") bad.push(null, [], "text", 1);
  if (additionalProperties === false || unevaluatedProperties === false) bad.push({ ...example, no_such_field: 1 });
  for (const name of Array.isArray(required) ? required : []) {
    bad.push(Object.fromEntries(Object.entries(example).filter(([key]) => key !== name)));
  }
  return bad;
}
