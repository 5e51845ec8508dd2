// Runs a definition: `load` once, then prepare → infer → postprocess for each task, every stage timed apart and the
// output checked. Called by actors and by testRunner. It never races a stage against the signal: a stage that does not
// heed it still holds the GPU, and saying otherwise would be a lie; the caller's deadline ends the process instead.

import { withDeadline } from "../deadline.ts";
import { AppError, type FieldProblem, messageOf } from "../errors.ts";
import { createBatcher } from "./batch.ts";
import { createTaskContext, type RunnerHost, type RunnerJob } from "./context.ts";
import type { AnyRunner, LoadContext, RunnerContext } from "./define.ts";
import { describeRunner, type RunnerDescription } from "./description.ts";
import { type Failure, failureOf, type ModelWait, type Stage } from "./failure.ts";
import { type FileField, fileFields, type OutputFile, splitFiles } from "./file.ts";
import { type Check, compileSchema, type Formats } from "./schema.ts";

/** Large models are read from disk meanwhile; longer than this something hangs. */
const LOAD_MS_MAX = 60_000;
const HEALTH_MS_MAX = 5_000;
const UNLOAD_MS_MAX = 10_000;

export interface LoadOptions extends RunnerHost {
  /** Formats for the input's schema, beside the built-in ones. */
  readonly formats?: Formats;
  /** Default 60,000. */
  readonly loadMsMax?: number;
}

/** Milliseconds that each stage took, with fractions; 0 for one that was not reached. */
export interface StageTiming {
  readonly prepareMs: number;
  /** With the wait for a batch, where the runner batches. */
  readonly inferMs: number;
  /** With the check of the output. */
  readonly postprocessMs: number;
}

export type Execution =
  | {
      readonly ok: true;
      /** The output without its files. */
      readonly output: unknown;
      /** `output` as JSON text. */
      readonly json: string;
      /** To be stored; `withKeys` puts their keys into the output. */
      readonly files: readonly OutputFile[];
      readonly timing: StageTiming;
    }
  | {
      readonly ok: false;
      readonly error: Failure;
      /** Where no model server has begun on it, and the runner has sent nothing: the attempt need not count. */
      readonly wait: ModelWait | null;
      readonly timing: StageTiming;
    };

export interface LoadedRunner {
  readonly definition: AnyRunner;
  readonly description: RunnerDescription;
  /** One attempt. Never rejects. Calls may overlap, up to the runner's slots. */
  execute(input: unknown, job: RunnerJob): Promise<Execution>;
  /** Null when the runner can work, else why not. */
  health(): Promise<string | null>;
  /** Call once, when no execution runs any more. Throws `runner_failed` when the runner's own unload does. */
  unload(): Promise<void>;
}

/**
 * Checks the definition's schemas and example and runs its `load`. Throws `invalid_runner` for a definition that cannot
 * be served, `runner_unavailable` when `load` throws or does not end.
 */
export async function loadRunner(definition: AnyRunner, options: LoadOptions): Promise<LoadedRunner> {
  const description = describeRunner(definition);
  const checkInput = compileSchema(description.inputSchema, options.formats ? { formats: options.formats } : {});
  const checkOutput = createOutputCheck(definition);
  if (description.example !== undefined) {
    const [problem] = checkInput(description.example);
    if (problem) throw new AppError("invalid_runner", `the example does not match the input: ${textOf([problem])}`);
  }
  const shared: LoadContext = { log: options.log, gpu: options.gpu, blobs: options.blobs };
  const state = await runLoad(definition, shared, options.loadMsMax ?? LOAD_MS_MAX);
  const infer = createInfer(definition);

  return {
    definition,
    description,
    execute: (input, job) =>
      execute({ definition, checkInput, checkOutput, infer, options, shared, state }, input, job),
    async health() {
      try {
        const late = (): Error => new Error(`health did not answer within ${HEALTH_MS_MAX} ms`);
        await withDeadline(definition.health?.(state, shared), HEALTH_MS_MAX, late);
        return null;
      } catch (error) {
        return messageOf(error) || "health threw without a message";
      }
    },
    async unload() {
      const late = (): Error => new AppError("runner_failed", `unload did not end within ${UNLOAD_MS_MAX} ms`);
      await withDeadline(definition.unload?.(state, shared), UNLOAD_MS_MAX, late);
    },
  };
}

async function runLoad(definition: AnyRunner, shared: LoadContext, loadMsMax: number): Promise<unknown> {
  const late = (): Error => new Error(`it did not end within ${loadMsMax} ms`);
  try {
    return await withDeadline(definition.load?.(shared), loadMsMax, late);
  } catch (cause) {
    throw new AppError("runner_unavailable", `load of ${definition.name} failed: ${messageOf(cause)}`, { cause });
  }
}

type Infer = (prepared: unknown, context: RunnerContext<unknown>) => unknown;

function createInfer(definition: AnyRunner): Infer {
  if (!("inferBatch" in definition)) return (prepared, context) => definition.infer(prepared, context);
  const batcher = createBatcher<unknown, RunnerContext<unknown>, unknown>(definition.batch, (items, contexts) =>
    definition.inferBatch(items, contexts),
  );
  return (prepared, context) => batcher.add(prepared, context);
}

interface Engine {
  readonly definition: AnyRunner;
  readonly checkInput: Check;
  readonly checkOutput: OutputCheck;
  readonly infer: Infer;
  readonly options: LoadOptions;
  readonly shared: LoadContext;
  readonly state: unknown;
}

// The hot path: an attempt whose stages are synchronous costs no promise but its own, no timer and no listener.
async function execute(engine: Engine, input: unknown, job: RunnerJob): Promise<Execution> {
  const { definition, options } = engine;
  const { context, begun, end } = createTaskContext(options, engine.shared, engine.state, job);
  const timing = { prepareMs: 0, inferMs: 0, postprocessMs: 0 };
  let stage: Stage = "prepare";
  let startedMs = options.clock.monotonicMs();
  const lapMs = (): number => {
    const sinceMs = startedMs;
    startedMs = options.clock.monotonicMs();
    return startedMs - sinceMs;
  };
  try {
    job.signal.throwIfAborted();
    const problems = engine.checkInput(input);
    if (problems.length > 0) throw new AppError("invalid_input", `The input is not valid: ${textOf(problems)}`);
    let prepared: unknown = definition.prepare(input, context);
    if (isThenable(prepared)) prepared = await prepared;
    timing.prepareMs = lapMs();

    job.signal.throwIfAborted();
    stage = "infer";
    let inferred = engine.infer(prepared, context);
    if (isThenable(inferred)) inferred = await inferred;
    timing.inferMs = lapMs();

    job.signal.throwIfAborted();
    stage = "postprocess";
    let output: unknown = definition.postprocess(inferred, context);
    if (isThenable(output)) output = await output;
    stage = "output";
    const checked = engine.checkOutput(output);
    timing.postprocessMs = lapMs();
    return { ok: true, output: checked.output, json: checked.json, files: checked.files, timing };
  } catch (error) {
    if (stage === "prepare") timing.prepareMs = lapMs();
    else if (stage === "infer") timing.inferMs = lapMs();
    else timing.postprocessMs = lapMs();
    const { failure, known, wait } = failureOf(error, stage, job.signal.aborted);
    if (!known) job.log.error({ stage, error: error instanceof Error ? error.stack : String(error) }, "runner threw");
    return { ok: false, error: failure, wait: begun() ? null : wait, timing };
  } finally {
    end();
  }
}

const isThenable = (value: unknown): value is PromiseLike<unknown> =>
  typeof value === "object" && value !== null && "then" in value && typeof value.then === "function";

interface CheckedOutput {
  readonly output: unknown;
  readonly json: string;
  readonly files: readonly OutputFile[];
}

type OutputCheck = (output: unknown) => CheckedOutput;

const NO_FILES: readonly OutputFile[] = Object.freeze([]);

/** Throws `invalid_output` for what does not match the schema or is no JSON. */
function createOutputCheck(definition: AnyRunner): OutputCheck {
  const fields: readonly FileField[] = fileFields(JSON.parse(JSON.stringify(definition.output)));
  const check = compileSchema(definition.output, { from: "runner" });
  return (output) => {
    // A value that refers to itself makes the check recurse without end where the schema does; it is no JSON either.
    let problems: readonly FieldProblem[];
    try {
      problems = check(output);
    } catch (cause) {
      throw new AppError("invalid_output", "The output cannot be checked", { cause });
    }
    if (problems.length > 0) throw new AppError("invalid_output", `The output is not valid: ${textOf(problems)}`);
    const split = fields.length === 0 ? { output, files: NO_FILES } : splitFiles(output, fields);
    return { output: split.output, json: jsonOf(split.output), files: split.files };
  };
}

function jsonOf(output: unknown): string {
  let json: string | undefined;
  try {
    json = JSON.stringify(output);
  } catch (cause) {
    throw new AppError("invalid_output", `The output is not JSON: ${messageOf(cause).split("\n", 1)[0]}`, { cause });
  }
  if (json === undefined) throw new AppError("invalid_output", "The output is not JSON: it is undefined");
  return json;
}

/** The first problems in one line. */
const textOf = (problems: readonly FieldProblem[]): string =>
  problems
    .slice(0, 3)
    .map(({ path, message }) => `${path || "it"} ${message}`)
    .join("; ");
