// One attempt at a job: runs it, stores its output, writes its end down, or leaves word of a retry. Called by jobs.ts,
// which keeps the book of what is held (Custody). The order is the guarantee: blob, then result by compare-and-set, then
// ack; it never infers again for a result that it could not write down.
import type { Blobs } from "../blobs/blobs.ts";
import { readUserFile } from "../blobs/user-file.ts";
import type { Bus } from "../bus/connection.ts";
import { subjects } from "../bus/subjects.ts";
import type { Clock } from "../clock.ts";
import { asAppError } from "../errors.ts";
import { randomToken } from "../ids.ts";
import type { Log } from "../log.ts";
import { failureOf, type ModelWait } from "../registry/failure.ts";
import { retryDelayMs } from "../tasks/backoff.ts";
import { liveCallback } from "../tasks/callback.ts";
import { type Committed, commitResult } from "../tasks/commit.ts";
import { readEarlierDeltas } from "../tasks/earlier-deltas.ts";
import { nextWait, waitedInVain } from "../tasks/model-wait.ts";
import type { TaskError, Timing } from "../tasks/records.ts";
import type { TerminalStatus } from "../tasks/task.ts";
import { endedTask, eventJson, resetData, retryData, startedData, timingOf } from "./ended.ts";
import { type Held, logFields } from "./held-job.ts";
import type { ActorMetrics } from "./metrics.ts";
import { storeOutput } from "./output.ts";
import type { PutOff } from "./put-off.ts";
import type { Board } from "./scoreboard.ts";

export interface AttemptOptions {
  readonly bus: Bus;
  readonly board: Board;
  readonly blobs: Blobs;
  readonly partitions: number;
  readonly actor: { readonly id: string; readonly gpu: string };
  readonly clock: Clock;
  readonly random: () => number;
  /** How long a task waits for a model server in a row. */
  readonly modelWaitMs: number;
  readonly log: Log;
  readonly metrics: ActorMetrics;
}

/** What an attempt tells the book of held jobs. */
export interface Custody {
  /** Aborts when the process must end now, with or without a result. */
  readonly ending: AbortSignal;
  /** False once the job was given away. */
  holds(held: Held): boolean;
  /** The runner is done with it: its slot is free. Idempotent. */
  freeSlot(held: Held): void;
  /** Its result is being written down, until the returned function is called. */
  writing(held: Held): () => void;
  /** Whether the log of results has room; without it no new job is taken. */
  setFull(full: boolean): void;
  /** Acks. */
  done(held: Held): void;
  /** Hands back, to come again after `delayMs`. */
  letGo(held: Held, delayMs: number): void;
  /** Hands back at once; the attempt does not count. */
  handBackUncounted(held: Held): void;
  /** Jobs handed back until there is a model server. */
  readonly putOff: PutOff;
}

export interface Attempts {
  run(held: Held, attempt: number, crashes: number, eventNumber: number): Promise<void>;
  /** Writes the end down and acks; deletes `keys`, what this attempt stored, when another has won. */
  end(
    held: Held,
    status: TerminalStatus,
    timing: Timing | null,
    outcome: { readonly resultJson?: string; readonly error?: TaskError },
    keys?: readonly string[],
  ): Promise<void>;
}

/** Attempts quicker than this end before anybody could have seen their STARTED, so it need not go ahead. */
const SLOW_MS = 2;
const UPLOAD_TRIES_MAX = 3;
/** Larger inputs are refused at submission. */
const INPUT_BYTES_MAX = 32 * 1024 * 1024;

const NONE: readonly unknown[] = Object.freeze([]);

export function createAttempts(options: AttemptOptions, models: Iterable<string>, custody: Custody): Attempts {
  const { bus, board, blobs, partitions, actor, clock, random, modelWaitMs, log, metrics } = options;

  /** Models whose last attempt took long, or that have not run yet. */
  const slow = new Set(models);

  const publishEvent = (held: Held, event: string, data: unknown): void => {
    if (!custody.holds(held)) return;
    held.eventNumber++;
    board.setEventNumber(held.slot, held.eventNumber);
    bus.publish(subjects.events(held.job.id), eventJson(held, event, data));
    if (held.job.callback) tellCallback(held, event, data);
  };

  const tellCallback = (held: Held, event: string, data: unknown): void => {
    const { job, attempt, eventNumber, startedAtMs } = held;
    // An attempt that waits is told of once.
    const kind = event === "STARTED" && !held.waiting ? "started" : event === "progress" ? "progress" : null;
    const telling = { attempt, eventNumber, startedAtMs, actor, nowMs: clock.now() };
    const text = kind && liveCallback(job, kind, telling, kind === "progress" ? data : undefined);
    if (text) bus.publish(subjects.callback(job.id), text);
  };

  const run: Attempts["run"] = async (held, attempt, crashes, eventNumber) => {
    const { job, runner } = held;
    const now = clock.now();
    held.attempt = attempt;
    held.crashes = crashes;
    held.eventNumber = eventNumber;
    held.fence = randomToken();
    held.startedAtMs = now;
    held.deadlineMs = now + (job.timeoutMs ?? runner.description.timeoutMs);
    board.begin(held.slot, attempt, crashes, held.maxAttempts, held.deadlineMs);
    if (!held.waiting) metrics.began(job.model);
    publishEvent(held, "STARTED", startedData(job.id, attempt, actor, now));
    const hasPast = attempt > 1 || crashes > 0 || eventNumber > 0;
    if (hasPast)
      await bus.flush(2_000); // a task with a past leaves word before it runs
    else if (slow.has(job.model)) await nextTurn(); // a runner may block the event loop: its STARTED leaves before it
    let input = job.input;
    try {
      if (job.inputRef) input = await readInput(blobs, job.inputRef.key);
    } catch (error) {
      const { failure } = failureOf(error, "prepare", held.controller.signal.aborted);
      return failed(held, failure, timingOf(held, { prepareMs: 0, inferMs: 0, postprocessMs: 0 }, 0, clock.now()));
    }
    const earlierDeltas = hasPast ? await readEarlierDeltas(bus, job.id, job.created) : NONE;
    const execution = await runner.execute(input, {
      task: { id: job.id, model: job.model, ownerId: job.key, attempt, metadata: job.metadata },
      signal: held.controller.signal,
      log,
      readFile: (fileId, sizeBytesMax) => readUserFile(blobs, job.key, fileId, sizeBytesMax),
      onProgress: (fraction, message) => publishEvent(held, "progress", { fraction, message }),
      onDelta: (json) => {
        held.waiting = null; // a server was there
        publishEvent(held, "delta", JSON.parse(json));
      },
      earlierDeltas,
      onReset: () => publishEvent(held, "reset", resetData(held, actor)),
    });
    custody.freeSlot(held);
    const { prepareMs, inferMs, postprocessMs } = execution.timing;
    if (prepareMs + inferMs + postprocessMs > SLOW_MS) slow.add(job.model);
    else slow.delete(job.model);
    if (!execution.ok) {
      const timing = timingOf(held, execution.timing, 0, clock.now());
      if (execution.wait && held.stopped === null) return unserved(held, execution.error, execution.wait, timing);
      return failed(held, execution.error, timing);
    }
    const uploadFromMs = clock.monotonicMs();
    const stored = await store(held, execution);
    if (!stored) return;
    const timing = timingOf(held, execution.timing, clock.monotonicMs() - uploadFromMs, clock.now());
    await end(held, "SUCCESS", timing, { resultJson: stored.resultJson }, stored.keys);
  };

  /** Null where the attempt has failed for the store's sake. */
  const store = async (held: Held, execution: Parameters<typeof storeOutput>[3]) => {
    for (let tries = 1; ; tries++) {
      try {
        return await storeOutput(blobs, held.job.id, held.fence, execution, custody.ending);
      } catch (error) {
        const known = asAppError(error);
        const again = known?.code === "storage_unavailable" && tries < UPLOAD_TRIES_MAX && !custody.ending.aborted;
        if (again) {
          await Bun.sleep(retryDelayMs(1, random()));
          continue;
        }
        const failure = {
          code: known?.code ?? "storage_unavailable",
          message: known?.message ?? "the result could not be stored",
          stage: "upload",
          retryable: known?.code !== "payload_too_large",
        };
        await failed(held, failure, timingOf(held, execution.timing, 0, clock.now()));
        return null;
      }
    }
  };

  /** No model server has begun on it: the same attempt is begun again later, until it has waited long enough. */
  const unserved = async (held: Held, error: TaskError, wait: ModelWait, timing: Timing): Promise<void> => {
    const { waiting: before, startedAtMs, job } = held;
    const nowMs = clock.now();
    const asked = {
      before,
      attempt: held.attempt,
      startedAtMs,
      nowMs,
      waitMsMax: modelWaitMs,
      retryAfterMs: wait.retryAfterMs,
    };
    const next = nextWait(job, { ...asked, random: random() });
    if (next === null) {
      const inVain = waitedInVain(error, before?.sinceMs ?? startedAtMs, nowMs);
      return end(held, "FAILURE", timing, { error: inVain });
    }
    held.waiting = next.waiting;
    metrics.waited(job.model);
    const delayMs = Math.min(custody.putOff.delayMs(nowMs, next.delayMs), next.leftMs);
    const about = { ...logFields(held), code: error.code, tries: next.waiting.tries, retry_in_ms: delayMs };
    if (before === null) log.info(about, "no model server can begin: the task waits");
    else log.debug(about, "the task still waits for a model server");
    await again(held, error, delayMs);
    custody.putOff.add(job.id, held.ackSubject, clock.now() + delayMs);
  };

  /** Leaves word, and hands back. */
  const again = async (held: Held, error: TaskError, delayMs: number): Promise<void> => {
    publishEvent(held, "RETRY", retryData(held, error, delayMs));
    board.begin(held.slot, 0, held.crashes, held.maxAttempts, 0); // all is said: a death from here on is none of it
    await bus.flush(2_000); // the word before the hand-back
    custody.letGo(held, delayMs);
  };

  const failed = async (held: Held, error: TaskError, timing: Timing): Promise<void> => {
    if (held.stopped === "cancel") return end(held, "CANCELLED", timing, {});
    if (held.stopped === "shutdown") return custody.handBackUncounted(held);
    const why: TaskError =
      held.stopped === "timeout"
        ? { code: "timeout", message: "the attempt took longer than timeout_ms", stage: error.stage, retryable: true }
        : error;
    if (!why.retryable || held.attempt >= held.maxAttempts) {
      return end(held, "FAILURE", timing, { error: { ...why, retryable: false } });
    }
    const delayMs = retryDelayMs(held.attempt, random());
    held.waiting = null; // this one counts
    metrics.retried(held.job.model);
    log.warn({ ...logFields(held), code: why.code, retry_in_ms: delayMs }, "attempt failed");
    await again(held, why, delayMs);
  };

  const end: Attempts["end"] = async (held, status, timing, outcome, keys = []) => {
    custody.freeSlot(held);
    const written = custody.writing(held);
    try {
      const record = endedTask(held, status, timing, outcome, actor, clock.now());
      const commitOptions = { signal: custody.ending, onFull: () => custody.setFull(true) };
      let committed: Committed = await commitResult(bus, partitions, record, commitOptions);
      if (committed.kind === "lost" && committed.by?.record.token === "cancelling" && status !== "CANCELLED") {
        // A cancel came first. Nobody else has the job, and its work is done: the GPU is free.
        held.markerSequence = committed.by.sequence;
        const cancelled = endedTask(held, "CANCELLED", timing, {}, actor, clock.now());
        await Promise.allSettled(keys.map((key) => blobs.delete(key)));
        committed = await commitResult(bus, partitions, cancelled, commitOptions);
        logEnd(held, "CANCELLED", timing, committed);
      } else {
        if (committed.kind === "lost") await Promise.allSettled(keys.map((key) => blobs.delete(key)));
        logEnd(held, status, timing, committed);
      }
      custody.setFull(false);
      custody.done(held);
    } finally {
      written();
    }
  };

  const logEnd = (held: Held, status: TerminalStatus, timing: Timing | null, committed: Committed): void => {
    const won = committed.kind === "won";
    if (won) metrics.ended(held.job, status, timing);
    const fields = { ...logFields(held), status, won, ...timing };
    log.info(fields, won ? "task ended" : "another attempt had won");
  };

  return { run, end };
}

async function readInput(blobs: Blobs, key: string): Promise<unknown> {
  const bytes = await blobs.read(key, INPUT_BYTES_MAX);
  return JSON.parse(new TextDecoder().decode(bytes));
}

/** Resolves when what was published before has been written to the socket. */
async function nextTurn(): Promise<void> {
  await null; // the client hands its frames to the socket at the end of this job, and they leave at the end of the turn
  await new Promise((resolve) => setImmediate(resolve));
}
