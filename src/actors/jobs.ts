// The jobs of one actor: takes a delivery, looks up its history where it may have one, runs it, writes its end down and
// acks. Called by the pullers with what they got; it never takes more than room() said and never runs a job twice at
// once. The order is the guarantee: blob, then result by compare-and-set, then ack.
import type { Blobs } from "../blobs/blobs.ts";
import type { Bus, BusMessage } from "../bus/connection.ts";
import { readLast } from "../bus/log.ts";
import { ack, nak } from "../bus/queues.ts";
import { type Delivery, parseJob, streams, subjects } from "../bus/subjects.ts";
import type { Clock } from "../clock.ts";
import { asAppError, messageOf } from "../errors.ts";
import { randomToken } from "../ids.ts";
import type { Log } from "../log.ts";
import type { LoadedRunner } from "../registry/stages.ts";
import { retryDelayMs } from "../tasks/backoff.ts";
import { type Committed, commitResult, readResult } from "../tasks/commit.ts";
import { askHolders } from "../tasks/holders.ts";
import { type JobRecord, parseEventRecord, parseJobRecord, type TaskError, type Timing } from "../tasks/records.ts";
import type { TerminalStatus } from "../tasks/task.ts";
import type { CancelWatch } from "./cancel-watch.ts";
import { endedTask, eventJson, retryData, startedData } from "./ended.ts";
import { handedBackEvent } from "./hand-back.ts";
import type { Held, StopReason } from "./held-job.ts";
import { judge, type Verdict } from "./history.ts";
import { storeOutput } from "./output.ts";
import { type Board, HELD_MAX } from "./scoreboard.ts";

export interface JobsOptions {
  readonly bus: Bus;
  readonly board: Board;
  readonly blobs: Blobs;
  readonly partitions: number;
  readonly actor: { readonly id: string; readonly gpu: string };
  readonly runners: ReadonlyMap<string, LoadedRunner>;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
  /** Room may have become free for this model. */
  readonly onRoom: (model: string) => void;
}

/** Results being written down at once, for each slot of a runner: the GPU goes on meanwhile, the lease is kept. */
const WRITING_PER_SLOT_MAX = 4;
const UPLOAD_TRIES_MAX = 3;
/** Larger inputs are refused at submission. */
const INPUT_BYTES_MAX = 32 * 1024 * 1024;

export class Jobs {
  private readonly held = new Map<string, Held>();
  private readonly counts = new Map<string, { running: number; writing: number }>();
  /** A task that was in a process when it died runs alone, so that it can take no neighbour with it. */
  private readonly suspects: Held[] = [];
  private suspectRuns = false;
  private running = 0;
  private logFull = false;
  private draining = false;
  private readonly shutdown = new AbortController();
  private readonly options: JobsOptions;
  private cancels: CancelWatch | null = null;

  constructor(options: JobsOptions) {
    this.options = options;
    for (const model of options.runners.keys()) this.counts.set(model, { running: 0, writing: 0 });
  }

  useCancels(cancels: CancelWatch): void {
    this.cancels = cancels;
  }

  /** Jobs of `model` that could be started now. */
  room(model: string): number {
    const count = this.counts.get(model);
    const slots = this.options.runners.get(model)?.description.slots ?? 0;
    if (!count || !this.cancels || this.draining || this.logFull || this.suspectRuns || this.suspects.length > 0)
      return 0;
    if (count.writing >= slots * WRITING_PER_SLOT_MAX) return 0;
    return Math.min(slots - count.running, HELD_MAX - this.held.size);
  }

  get size(): number {
    return this.held.size;
  }

  /** A job for which there was room. */
  take(message: BusMessage, delivery: Delivery): void {
    const { bus, board, log } = this.options;
    const at = parseJob(message.subject);
    const runner = at && this.options.runners.get(at.model);
    if (!at || !runner) return nak(bus, message.reply, 1_000);
    const known = this.held.get(at.taskId);
    if (known) return this.adopt(known, message.reply);
    let job: JobRecord;
    try {
      job = parseJobRecord(message.text());
    } catch (error) {
      log.error({ task_id: at.taskId, error: messageOf(error) }, "job has an unknown form; left for another version");
      return nak(bus, message.reply, 60_000);
    }
    const held: Held = {
      job,
      jobSubject: message.subject,
      runner,
      partition: at.partition,
      controller: new AbortController(),
      ackSubject: message.reply,
      slot: board.hold(boardEntry(message.reply, message.subject)),
      running: true,
      attempt: 0,
      crashes: 0,
      maxAttempts: job.maxAttempts ?? runner.description.maxAttempts,
      eventNumber: 0,
      fence: "",
      startedAtMs: 0,
      deadlineMs: Number.POSITIVE_INFINITY,
      stopped: null,
      markerSequence: 0,
    };
    this.held.set(job.id, held);
    this.running++;
    this.count(held).running++;
    const fresh = delivery.delivered === 1 && !this.cancels?.mustLook(at.partition, delivery.streamSequence, job.id);
    const work = fresh ? this.run(held, 1, 0, 0) : this.lookAndRun(held, delivery.delivered);
    work.catch((error) => this.giveUp(held, error));
  }

  /** The broker delivered again what is in hand: the newest delivery is the one to ack and to keep alive. */
  private adopt(held: Held, ackSubject: string): void {
    const { board } = this.options;
    board.release(held.slot);
    held.ackSubject = ackSubject;
    held.slot = board.hold(boardEntry(ackSubject, held.jobSubject));
    const deadlineMs = Number.isFinite(held.deadlineMs) ? held.deadlineMs : 0;
    board.begin(held.slot, held.attempt, held.crashes, held.maxAttempts, deadlineMs);
    board.setEventNumber(held.slot, held.eventNumber);
  }

  /** True where this actor holds the task; stops it. */
  cancel(taskId: string, markerSequence: number): boolean {
    const held = this.held.get(taskId);
    if (!held) return false;
    held.markerSequence = Math.max(held.markerSequence, markerSequence);
    this.stop(held, "cancel");
    return true;
  }

  holds(taskId: string): boolean {
    return this.held.has(taskId);
  }

  /** Aborts what is over its deadline. Called a few times a second. */
  checkDeadlines(): void {
    const now = this.options.clock.now();
    for (const held of this.held.values()) if (held.running && held.deadlineMs <= now) this.stop(held, "timeout");
  }

  /** No new jobs; resolves when none is held. After `deadlineMs` what still runs is stopped and handed back. */
  async drain(deadlineMs: number): Promise<void> {
    this.draining = true;
    for (const suspect of this.suspects.splice(0)) this.handBackUncounted(suspect);
    const cut = setTimeout(() => {
      for (const held of this.held.values()) this.stop(held, "shutdown");
      this.shutdown.abort();
    }, deadlineMs);
    const end = this.options.clock.monotonicMs() + deadlineMs + 2_000;
    while (this.held.size > 0 && this.options.clock.monotonicMs() < end) await Bun.sleep(10);
    clearTimeout(cut);
    this.shutdown.abort();
    for (const held of [...this.held.values()]) this.handBackUncounted(held);
  }

  private stop(held: Held, reason: StopReason): void {
    if (held.stopped) return;
    held.stopped = reason;
    held.controller.abort();
  }

  private count(held: Held): { running: number; writing: number } {
    const count = this.counts.get(held.job.model);
    if (!count) throw new RangeError("a job of a model without a runner");
    return count;
  }

  private async lookAndRun(held: Held, delivered: number): Promise<void> {
    const { bus, partitions } = this.options;
    const [result, event] = await Promise.all([
      readResult(bus, partitions, held.job.id),
      readLast(bus, streams.events, subjects.events(held.job.id), 2_000),
    ]);
    const last = event && parseEventRecord(event.text);
    const verdict = judge(result, last, delivered, held.maxAttempts);
    const begun = last !== null && last.event !== "RETRY" && !last.uncounted;
    // An attempt that left no word may still run elsewhere: its actor was only cut off from a restarted broker.
    if (begun && verdict.kind !== "ended" && (await askHolders(bus, held.job.id, this.options.actor.id)) > 0) {
      return this.letGo(held, 5_000);
    }
    await this.follow(held, verdict);
  }

  private async follow(held: Held, verdict: Verdict): Promise<void> {
    if (verdict.kind === "ended") return this.done(held);
    held.attempt = verdict.attempt;
    held.eventNumber = verdict.eventNumber;
    if (verdict.kind === "cancelled") {
      held.markerSequence = verdict.markerSequence;
      return this.end(held, "CANCELLED", null, {});
    }
    if (verdict.kind === "failed") return this.end(held, "FAILURE", null, { error: verdict.error });
    if (verdict.crashes === 0) return this.run(held, verdict.attempt, 0, verdict.eventNumber);
    held.crashes = verdict.crashes;
    this.suspects.push(held);
    this.runSuspect();
  }

  /** Starts the next suspect once nothing else runs in this process. */
  private runSuspect(): void {
    if (this.suspectRuns || this.running > this.suspects.length) return;
    const held = this.suspects.shift();
    if (!held) return;
    this.suspectRuns = true;
    this.run(held, held.attempt, held.crashes, held.eventNumber).catch((error) => this.giveUp(held, error));
  }

  private async run(held: Held, attempt: number, crashes: number, eventNumber: number): Promise<void> {
    const { bus, board, clock, actor } = this.options;
    const { job, runner } = held;
    const now = clock.now();
    held.attempt = attempt;
    held.crashes = crashes;
    held.eventNumber = eventNumber;
    held.fence = randomToken();
    held.startedAtMs = now;
    held.deadlineMs = now + (job.timeoutMs ?? runner.description.timeoutMs);
    board.begin(held.slot, attempt, crashes, held.maxAttempts, held.deadlineMs);
    this.publishEvent(held, "STARTED", startedData(job.id, attempt, actor, now));
    if (attempt > 1 || crashes > 0) await bus.flush(2_000); // a task with a past leaves word before it runs
    const input = job.inputRef ? await this.readInput(held) : job.input;
    const execution = await runner.execute(input, {
      task: { id: job.id, model: job.model, attempt, metadata: job.metadata },
      signal: held.controller.signal,
      log: this.options.log,
      onProgress: (fraction, message) => this.publishEvent(held, "progress", { fraction, message }),
      onDelta: (json) => this.publishEvent(held, "delta", JSON.parse(json)),
    });
    this.freeSlot(held);
    if (!execution.ok) return this.failed(held, execution.error, timingOf(held, execution.timing, 0, clock.now()));
    const uploadFromMs = clock.monotonicMs();
    const stored = await this.store(held, execution);
    if (!stored) return;
    const timing = timingOf(held, execution.timing, clock.monotonicMs() - uploadFromMs, clock.now());
    await this.end(held, "SUCCESS", timing, { resultJson: stored.resultJson }, stored.keys);
  }

  private async readInput(held: Held): Promise<unknown> {
    const { inputRef } = held.job;
    if (!inputRef) return held.job.input;
    const bytes = await this.options.blobs.read(inputRef.key, INPUT_BYTES_MAX);
    return JSON.parse(new TextDecoder().decode(bytes));
  }

  /** Null where the attempt has failed for the store's sake. */
  private async store(held: Held, execution: Parameters<typeof storeOutput>[3]) {
    for (let tries = 1; ; tries++) {
      try {
        return await storeOutput(this.options.blobs, held.job.id, held.fence, execution, this.shutdown.signal);
      } catch (error) {
        const known = asAppError(error);
        const again =
          known?.code === "storage_unavailable" && tries < UPLOAD_TRIES_MAX && !this.shutdown.signal.aborted;
        if (again) {
          await Bun.sleep(retryDelayMs(1, this.options.random()));
          continue;
        }
        const failure = {
          code: known?.code ?? "storage_unavailable",
          message: known?.message ?? "the result could not be stored",
          stage: "upload",
          retryable: known?.code !== "payload_too_large",
        };
        await this.failed(held, failure, timingOf(held, execution.timing, 0, this.options.clock.now()));
        return null;
      }
    }
  }

  private async failed(held: Held, error: TaskError, timing: Timing): Promise<void> {
    const { bus, random } = this.options;
    if (held.stopped === "cancel") return this.end(held, "CANCELLED", timing, {});
    if (held.stopped === "shutdown") return this.handBackUncounted(held);
    const why: TaskError =
      held.stopped === "timeout"
        ? { code: "timeout", message: "the attempt took longer than timeout_ms", stage: error.stage, retryable: true }
        : error;
    if (!why.retryable || held.attempt >= held.maxAttempts) {
      return this.end(held, "FAILURE", timing, { error: { ...why, retryable: false } });
    }
    const delayMs = retryDelayMs(held.attempt, random());
    this.publishEvent(held, "RETRY", retryData(held.job.id, held.attempt, why, delayMs));
    this.options.log.warn({ ...this.fields(held), code: why.code, retry_in_ms: delayMs }, "attempt failed");
    await bus.flush(2_000); // the word before the hand-back
    this.letGo(held, delayMs);
  }

  /** Writes the end down and acks; deletes what this attempt stored when another has won. */
  private async end(
    held: Held,
    status: TerminalStatus,
    timing: Timing | null,
    outcome: { resultJson?: string; error?: TaskError },
    keys: readonly string[] = [],
  ): Promise<void> {
    const { bus, partitions, clock, actor, blobs } = this.options;
    const count = this.count(held);
    this.freeSlot(held);
    count.writing++;
    try {
      const record = endedTask(held, status, timing, outcome, actor, clock.now());
      const options = { signal: this.shutdown.signal, onFull: () => this.setFull(true) };
      let committed: Committed = await commitResult(bus, partitions, record, options);
      if (committed.kind === "lost" && committed.by?.record.token === "cancelling" && status !== "CANCELLED") {
        // A cancel came first. Nobody else has the job, and its work is done: the GPU is free.
        held.markerSequence = committed.by.sequence;
        const cancelled = endedTask(held, "CANCELLED", timing, {}, actor, clock.now());
        await Promise.allSettled(keys.map((key) => blobs.delete(key)));
        committed = await commitResult(bus, partitions, cancelled, options);
        this.logEnd(held, "CANCELLED", timing, committed);
      } else {
        if (committed.kind === "lost") await Promise.allSettled(keys.map((key) => blobs.delete(key)));
        this.logEnd(held, status, timing, committed);
      }
      this.setFull(false);
      this.done(held);
    } finally {
      count.writing--;
      this.options.onRoom(held.job.model);
    }
  }

  private setFull(full: boolean): void {
    if (full && !this.logFull) this.options.log.error({}, "the log of results is full: no new jobs until it has room");
    this.logFull = full;
  }

  private logEnd(held: Held, status: TerminalStatus, timing: Timing | null, committed: Committed): void {
    const won = committed.kind === "won";
    this.options.log.info(
      { ...this.fields(held), status, won, ...timing },
      won ? "task ended" : "another attempt had won",
    );
  }

  private fields(held: Held): object {
    const { job, attempt } = held;
    const trace_id = job.trace.split("-")[1] ?? "";
    return { task_id: job.id, model: job.model, attempt, gpu: this.options.actor.gpu, trace_id };
  }

  private publishEvent(held: Held, event: string, data: unknown): void {
    if (!this.held.has(held.job.id)) return;
    held.eventNumber++;
    this.options.board.setEventNumber(held.slot, held.eventNumber);
    this.options.bus.publish(subjects.events(held.job.id), eventJson(held, event, data));
  }

  private handBackUncounted(held: Held): void {
    if (held.attempt > 0 && held.startedAtMs > 0) {
      const event = handedBackEvent(held);
      this.options.bus.publish(subjects.events(held.job.id), JSON.stringify(event));
    }
    this.letGo(held, 0);
  }

  private letGo(held: Held, delayMs: number): void {
    nak(this.options.bus, held.ackSubject, delayMs);
    this.forget(held);
  }

  private done(held: Held): void {
    ack(this.options.bus, held.ackSubject);
    this.forget(held);
  }

  /** The work could not be finished for a reason outside of the job: hand it back, another try may do better. */
  private giveUp(held: Held, error: unknown): void {
    this.options.log.error({ ...this.fields(held), error: messageOf(error) }, "job could not be finished; handed back");
    if (this.held.get(held.job.id) === held) this.letGo(held, 1_000);
  }

  private freeSlot(held: Held): void {
    if (!held.running) return;
    held.running = false;
    this.running--;
    this.count(held).running--;
    if (held.crashes > 0) this.suspectRuns = false;
    this.runSuspect();
    this.options.onRoom(held.job.model);
  }

  private forget(held: Held): void {
    if (!this.held.delete(held.job.id)) return;
    this.options.board.release(held.slot);
    this.freeSlot(held);
    this.options.onRoom(held.job.model);
  }
}

const boardEntry = (ackSubject: string, jobSubject: string) => ({
  ackSubject,
  jobSubject,
  attempt: 0,
  crashes: 0,
  maxAttempts: 0,
  deadlineMs: 0,
  eventNumber: 0,
});

function timingOf(
  held: Held,
  stages: { readonly prepareMs: number; readonly inferMs: number; readonly postprocessMs: number },
  uploadMs: number,
  nowMs: number,
): Timing {
  const round = (ms: number): number => Math.max(0, Math.round(ms * 100) / 100);
  return {
    queue_ms: round(held.startedAtMs - held.job.created),
    prepare_ms: round(stages.prepareMs),
    infer_ms: round(stages.inferMs),
    postprocess_ms: round(stages.postprocessMs),
    upload_ms: round(uploadMs),
    total_ms: round(nowMs - held.job.created),
  };
}
