// The `ctx` of one task: what its stages may reach, bound to its signal. Made by stages.ts for every execution; it
// holds nothing that outlives the task, and after the end its progress and deltas go nowhere.
import type { OpenAI } from "openai";
import type { Blobs } from "../blobs/blobs.ts";
import type { Clock } from "../clock.ts";
import { AppError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { FetchedBytes } from "../net/fetch-input.ts";
import { readAudio } from "./audio.ts";
import type { LoadContext, RunnerContext, RunnerTask } from "./define.ts";
import { createDeltas, type Deltas, type Merge } from "./deltas.ts";
import { fileOutput } from "./file.ts";
import type { DecodedImage, ImageInput } from "./image.ts";
import { createProgress, type Progress, type ProgressSink } from "./progress.ts";

/** What the host lends to every runner of a process. */
export interface RunnerHost {
  readonly log: Log;
  readonly gpu: string;
  readonly blobs: Blobs;
  readonly clock: Clock;
  readonly fetchInput: (url: string, signal: AbortSignal) => Promise<FetchedBytes>;
  readonly readImage: (input: ImageInput, job: Pick<RunnerJob, "signal" | "readFile">) => Promise<DecodedImage>;
  /** The client of the model servers for one execution; absent where there are none. */
  readonly openLlm?: (call: LlmUse) => OpenAI;
}

/** For whom a client of the model servers is opened, and who is told when one of them begins to answer. */
export interface LlmUse extends Pick<RunnerJob, "task" | "signal"> {
  readonly onAnswered: () => void;
}

/** One execution of a runner, as its caller sees it. */
export interface RunnerJob {
  readonly task: RunnerTask;
  readonly signal: AbortSignal;
  readonly log: Log;
  /** A file that the owner of the task uploaded. Throws `file_not_found`, `payload_too_large`. */
  readonly readFile: (fileId: string, sizeBytesMax: number) => Promise<Uint8Array>;
  /** At most ten a second, the last one always. Must not throw. */
  readonly onProgress: ProgressSink;
  /** `json` has no line breaks and at most 32 KiB. Must not throw. */
  readonly onDelta: (json: string) => void;
  /** What earlier attempts sent and watchers still hold; null where that is more, or less, than can be known. */
  readonly earlierDeltas: readonly unknown[] | null;
  /** Watchers are to forget all deltas so far. Comes at most once, before the first delta. Must not throw. */
  readonly onReset: () => void;
}

export interface TaskContext {
  readonly context: RunnerContext<unknown>;
  /** A model server has begun to answer, or watchers have been sent something: to do it again costs. */
  readonly begun: () => boolean;
  /** Sends the last progress and cuts the task off. */
  readonly end: () => void;
}

export function createTaskContext(host: RunnerHost, shared: LoadContext, state: unknown, job: RunnerJob): TaskContext {
  let progress: Progress | null = null;
  let deltas: Deltas | null = null;
  let llm: OpenAI | null = null;
  let ended = false;
  let begun = false;
  /** What earlier attempts sent is not yet followed on, nor taken back. */
  let stale = job.earlierDeltas === null || job.earlierDeltas.length > 0;
  const context: RunnerContext<unknown> = {
    log: job.log,
    gpu: shared.gpu,
    blobs: shared.blobs,
    state,
    task: job.task,
    signal: job.signal,
    get llm() {
      if (!host.openLlm) throw new AppError("model_unavailable", "There is no model server here");
      llm ??= host.openLlm({
        task: job.task,
        signal: job.signal,
        onAnswered: () => {
          begun = true;
        },
      });
      return llm;
    },
    fetchInput: (url) => host.fetchInput(url, job.signal),
    image: (input) => host.readImage(input, job),
    audio: (input) => readAudio(input, { fetch: (url) => host.fetchInput(url, job.signal), readFile: job.readFile }),
    progress(fraction, message) {
      if (ended) return;
      progress ??= createProgress(job.onProgress, host.clock);
      progress.report(fraction, message);
    },
    emit(delta, merge) {
      if (ended) return;
      deltas ??= createDeltas((json) => {
        if (stale) job.onReset();
        stale = false;
        begun = true;
        job.onDelta(json);
      }, host.clock);
      deltas.send(delta, merge as Merge | undefined);
    },
    earlierDeltas: async () => job.earlierDeltas ?? [],
    continueDeltas() {
      if (job.earlierDeltas !== null) stale = false;
    },
    file: fileOutput,
  };
  const end = (): void => {
    deltas?.end();
    ended = true;
    progress?.end();
  };
  return { context, begun: () => begun, end };
}
