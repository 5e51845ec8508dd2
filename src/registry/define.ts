// What a plugin author writes: the definition of a runner and the context its stages get. Pure declarations, checked at
// import time; nothing here touches the bus, the store or the file system. stages.ts runs what is defined here.
import type { Static, TSchema } from "@sinclair/typebox";
import type { OpenAI } from "openai";
import type { Blobs } from "../blobs/blobs.ts";
import { AppError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { FetchedBytes } from "../net/fetch-input.ts";
import type { AudioInput, Sound } from "./audio.ts";
import type { FileOutput } from "./file.ts";
import type { DecodedImage, ImageInput } from "./image.ts";

/** The newest version of the contract between a runner and its host. */
export const SDK_VERSION = 1;

const RUNNER_NAME = /^[a-z0-9][a-z0-9-]{0,63}$/;
const SEMVER = /^\d{1,5}\.\d{1,5}\.\d{1,5}$/;

/** What a runner may know of the task it works on. */
export interface RunnerTask {
  readonly id: string;
  readonly model: string;
  /** Id of the API key that owns it: a batch that calls a model holds the tasks of one owner, who pays for the call. */
  readonly ownerId: string;
  /** 1 on the first attempt, however often it was begun for want of a model server. */
  readonly attempt: number;
  readonly metadata: Readonly<Record<string, string>>;
}

/** Given to `load`, `unload` and `health`: what belongs to the process, not to one task. */
export interface LoadContext {
  readonly log: Log;
  /** The GPU id of this actor as in GPU_IDS; `CUDA_VISIBLE_DEVICES` is bound to it. */
  readonly gpu: string;
  readonly blobs: Blobs;
}

/** Given to every stage of a task. */
export interface RunnerContext<State> extends LoadContext {
  /** What `load` returned. */
  readonly state: State;
  readonly task: RunnerTask;
  /** Aborts on cancel, on `timeout_ms` and on shutdown. A runner that ignores it is killed with its process. */
  readonly signal: AbortSignal;
  /**
   * Calls the models of models.yaml as OpenAI's client does, for the owner of the task: routed, retried and counted by
   * the host, ended with the task. A model named "" is the default of its endpoint. What it throws needs no handling: a
   * server that is full or away costs no attempt and is waited for, if no call was answered and nothing emitted before;
   * one that fails is another attempt, a refused request none. Throws `model_unavailable` where there is no server.
   */
  readonly llm: OpenAI;
  /** Fetches a URL given by a user: public addresses only, size and time capped. Throws `fetch_*`. */
  fetchInput(url: string): Promise<FetchedBytes>;
  /**
   * Reads a picture from `image_url`, `image_base64` or `file_id` (uploaded by the owner of the task), checked before it
   * is decoded. Throws `image_*`, `fetch_*`, `file_not_found`.
   */
  image(input: ImageInput): Promise<DecodedImage>;
  /**
   * Reads a sound from `audio_url`, `audio_base64` or `file_id`, of a format that model servers know. Throws `audio_*`,
   * `fetch_*`, `file_not_found`.
   */
  audio(input: AudioInput): Promise<Sound>;
  /** Tells watchers how far the task is. `fraction` is 0 to 1. Best effort; at most ten a second leave the process. */
  progress(fraction: number, message?: string): void;
  /**
   * Sends a piece of output (a JSON value of at most 32 KiB) to watchers, in order. Best effort. With `merge`, which
   * makes one delta of two (null: these two stay apart), at most twenty a second leave: those that come within 50 ms of
   * the last are merged, and none is lost. A model's tokens are sent so. Throws `delta_too_large`, `invalid_delta`.
   */
  emit<Delta>(delta: Delta, merge?: (earlier: Delta, later: Delta) => Delta | null): void;
  /**
   * What earlier attempts of this task sent, in order, and watchers have: empty on the first one, and where it is not
   * known in full. Asking for it changes nothing.
   */
  earlierDeltas(): Promise<readonly unknown[]>;
  /**
   * What this attempt emits follows on `earlierDeltas()`. To be called before the first `emit`; else, where there are
   * earlier deltas, watchers are told by a `reset` to forget them.
   */
  continueDeltas(): void;
  /** Bytes for a field declared with `file(contentType)`. Throws `invalid_output`. */
  file(bytes: Uint8Array, contentType: string): FileOutput;
}

type Awaitable<T> = T | Promise<T>;

interface RunnerBase<Input extends TSchema, Output extends TSchema, State, Prepared, Inferred> {
  /** The task's `model`: `^[a-z0-9][a-z0-9-]{0,63}$`. */
  readonly name: string;
  /** `major.minor.patch`. */
  readonly version: string;
  /** One sentence of at most 300 characters for `GET /v1/models` and the API's pages. */
  readonly summary: string;
  /** The contract this file was written for; the newest when left out. */
  readonly sdk?: 1;
  /** Checked by the gateway before a task is accepted. Objects take no unknown fields unless they say so. */
  readonly input: Input;
  /** What `postprocess` returns. Checked in the actor. */
  readonly output: Output;
  /** An input that the smoke run uses; also shown in the API's pages. */
  readonly example?: Static<Input>;
  /** Jobs at once in one actor, 1 to 256. Default 1, with `inferBatch` `batch.max`. */
  readonly slots?: number;
  /** Time of one attempt. Default 300,000; 100 to 86,400,000. */
  readonly timeoutMs?: number;
  /** Attempts in all. Default 3; 1 to 20. */
  readonly maxAttempts?: number;
  /** Runs once when the actor starts, at most 60 s; what it returns is `ctx.state` for the life of the process. */
  load?(ctx: LoadContext): Awaitable<State>;
  unload?(state: State, ctx: LoadContext): Awaitable<void>;
  /** Throws when the runner cannot work; the actor then reports it as not healthy. */
  health?(state: State, ctx: LoadContext): Awaitable<void>;
  /** Fetch and decode. */
  prepare(input: Static<Input>, ctx: RunnerContext<State>): Awaitable<Prepared>;
  /** Turn what was inferred into the output. */
  postprocess(output: Inferred, ctx: RunnerContext<State>): Awaitable<Static<Output>>;
}

/** A runner: three stages, timed apart. `infer` takes one item; `inferBatch` takes those of up to `batch.max` tasks. */
export type RunnerDefinition<Input extends TSchema, Output extends TSchema, State, Prepared, Inferred> = RunnerBase<
  Input,
  Output,
  State,
  Prepared,
  Inferred
> &
  (
    | { infer(prepared: Prepared, ctx: RunnerContext<State>): Awaitable<Inferred> }
    | {
        /**
         * One answer an item, in the order of the items. A throw fails the whole batch. One batch runs at a time; each
         * item's own signal is in its context, and an item whose task was cancelled may still be among them.
         */
        inferBatch(
          items: readonly Prepared[],
          contexts: readonly RunnerContext<State>[],
        ): Awaitable<readonly Inferred[]>;
        /** At most `max` items; the first of them waits at most `waitMs` for others. */
        readonly batch: { readonly max: number; readonly waitMs: number };
      }
  );

/** A definition whose type parameters are forgotten: what the registry holds. */
export type AnyRunner = RunnerDefinition<TSchema, TSchema, unknown, unknown, unknown> & { readonly kind: "runner" };

/**
 * Declares a runner. Types flow from `input` through `prepare`, `infer` and `postprocess`, in that order of writing
 * (`load` before them). Throws `invalid_runner` at import time when a part is missing or a number out of its range.
 */
export function defineRunner<Input extends TSchema, Output extends TSchema, Prepared, Inferred, State = undefined>(
  definition: RunnerDefinition<Input, Output, State, Prepared, Inferred>,
): AnyRunner {
  const problem = problemOf(definition as unknown as AnyRunner);
  if (problem) throw new AppError("invalid_runner", problem);
  return { ...definition, kind: "runner" } as unknown as AnyRunner;
}

/** What is wrong with a definition, or null. Plugins may be plain JavaScript: what the types promise is looked at too. */
function problemOf(definition: AnyRunner): string | null {
  const batching = "inferBatch" in definition;
  if (!RUNNER_NAME.test(definition.name)) return `name must match ${RUNNER_NAME.source}`;
  if (!SEMVER.test(definition.version)) return "version must be major.minor.patch";
  if (typeof definition.summary !== "string" || !/^[^\n]{1,300}$/.test(definition.summary)) {
    return "summary must say in one line of at most 300 characters what the runner does";
  }
  if (definition.sdk !== undefined && definition.sdk !== SDK_VERSION) return `sdk ${definition.sdk} is not known here`;
  for (const name of ["input", "output"] as const) {
    if (typeof definition[name] !== "object" || definition[name] === null) return `${name} must be a schema`;
  }
  if ("infer" in definition === batching) return "a runner has either infer or inferBatch";
  const stages: object = { prepare: definition.prepare, postprocess: definition.postprocess };
  const infer: object = batching ? { inferBatch: definition.inferBatch } : { infer: definition.infer };
  for (const [name, stage] of Object.entries({ ...stages, ...infer })) {
    if (typeof stage !== "function") return `${name} must be a function`;
  }
  return (
    outOfRange("slots", definition.slots, 1, 256) ??
    outOfRange("timeoutMs", definition.timeoutMs, 100, 86_400_000) ??
    outOfRange("maxAttempts", definition.maxAttempts, 1, 20) ??
    (batching ? outOfRange("batch.max", definition.batch?.max ?? null, 1, 256) : null) ??
    (batching ? outOfRange("batch.waitMs", definition.batch?.waitMs ?? null, 0, 10_000) : null)
  );
}

const outOfRange = (name: string, value: number | undefined | null, min: number, max: number): string | null =>
  value === undefined || (Number.isInteger(value) && Number(value) >= min && Number(value) <= max)
    ? null
    : `${name} must be a whole number from ${min} to ${max}`;

/**
 * A failure that a runner knows: `code` (snake_case, reaches the client as `error.code`) and a message fit for the
 * client. `retryable: false` ends the task at once; the default is another attempt.
 */
export class RunnerError extends Error {
  override readonly name = "RunnerError";
  readonly code: string;
  readonly retryable: boolean;

  constructor(code: string, message: string, options: { retryable?: boolean; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryable = options.retryable ?? true;
  }
}
