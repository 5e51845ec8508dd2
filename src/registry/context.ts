// The `ctx` of one task: what its stages may reach, bound to its signal. Made by stages.ts for every execution; it
// holds nothing that outlives the task, and after the end its progress and deltas go nowhere.
import type { Blobs } from "../blobs/blobs.ts";
import type { Clock } from "../clock.ts";
import type { Log } from "../log.ts";
import type { FetchedBytes } from "../net/fetch-input.ts";
import { type LoadContext, type RunnerContext, RunnerError, type RunnerTask } from "./define.ts";
import { fileOutput } from "./file.ts";
import type { DecodedImage, ImageInput } from "./image.ts";
import { createProgress, type Progress, type ProgressSink } from "./progress.ts";

/** One delta as JSON. Tokens are a hundredth of it; whatever is larger is a result, not a delta. */
const DELTA_BYTES_MAX = 32 * 1_024;

/** What the host lends to every runner of a process. */
export interface RunnerHost {
  readonly log: Log;
  readonly gpu: string;
  readonly blobs: Blobs;
  readonly clock: Clock;
  readonly fetchInput: (url: string, signal: AbortSignal) => Promise<FetchedBytes>;
  readonly readImage: (input: ImageInput, job: Pick<RunnerJob, "signal" | "readFile">) => Promise<DecodedImage>;
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
}

export interface TaskContext {
  readonly context: RunnerContext<unknown>;
  /** Sends the last progress and cuts the task off. */
  readonly end: () => void;
}

export function createTaskContext(host: RunnerHost, shared: LoadContext, state: unknown, job: RunnerJob): TaskContext {
  let progress: Progress | null = null;
  let ended = false;
  const context: RunnerContext<unknown> = {
    log: job.log,
    gpu: shared.gpu,
    blobs: shared.blobs,
    state,
    task: job.task,
    signal: job.signal,
    fetchInput: (url) => host.fetchInput(url, job.signal),
    image: (input) => host.readImage(input, job),
    progress(fraction, message) {
      if (ended) return;
      progress ??= createProgress(job.onProgress, host.clock);
      progress.report(fraction, message);
    },
    emit(delta) {
      if (!ended) job.onDelta(deltaJson(delta));
    },
    file: fileOutput,
  };
  const end = (): void => {
    ended = true;
    progress?.end();
  };
  return { context, end };
}

function deltaJson(delta: unknown): string {
  let json: string | undefined;
  try {
    json = JSON.stringify(delta);
  } catch (cause) {
    throw new RunnerError("invalid_delta", "emit(delta) takes a JSON value", { retryable: false, cause });
  }
  if (json === undefined)
    throw new RunnerError("invalid_delta", "emit(delta) takes a JSON value", { retryable: false });
  // UTF-8 takes at most three bytes for a UTF-16 unit: only long texts have to be counted.
  if (json.length * 3 > DELTA_BYTES_MAX && Buffer.byteLength(json) > DELTA_BYTES_MAX) {
    throw new RunnerError("delta_too_large", `a delta has at most ${DELTA_BYTES_MAX} bytes`, { retryable: false });
  }
  return json;
}
