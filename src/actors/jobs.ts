// The jobs of one actor: takes a delivery, looks up its history where it may have one, has it run (attempt.ts), and
// keeps the book of what is held until it is acked or handed back. Called by the pullers with what they got; it never
// takes more than room() said and never runs a job twice at once.
import type { BusMessage } from "../bus/connection.ts";
import { readLast } from "../bus/log.ts";
import { ACK_WAIT_MS, ack, nak } from "../bus/queues.ts";
import { type Delivery, parseJob, streams, subjects } from "../bus/subjects.ts";
import { asAppError, messageOf } from "../errors.ts";
import type { LoadedRunner } from "../registry/stages.ts";
import { readResult } from "../tasks/commit.ts";
import { askHolders } from "../tasks/holders.ts";
import { type JobRecord, parseEventRecord, parseJobRecord } from "../tasks/records.ts";
import { isOverdue } from "../tasks/times.ts";
import { type AttemptOptions, type Attempts, type Custody, createAttempts } from "./attempt.ts";
import type { CancelWatch } from "./cancel-watch.ts";
import { handedBackEvent } from "./hand-back.ts";
import { type Held, logFields, type StopReason } from "./held-job.ts";
import { judge, type Verdict } from "./history.ts";
import { createPutOff, type PutOff } from "./put-off.ts";
import { HELD_MAX } from "./scoreboard.ts";

export interface JobsOptions extends AttemptOptions {
  readonly runners: ReadonlyMap<string, LoadedRunner>;
  /** Room may have become free for this model. */
  readonly onRoom: (model: string) => void;
}

/** Results being written down at once, for each slot of a runner: the GPU goes on meanwhile, the lease is kept. */
const WRITING_PER_SLOT_MAX = 4;
/** After a broker has come back its actors are back within so long: they dial several times a second. */
const REJOIN_MS_MAX = 3_000;
/** A job whose hand-back could not be said by then has lost its lease anyway. */
const HAND_BACK_MS_MAX = ACK_WAIT_MS;

export class Jobs {
  private readonly held = new Map<string, Held>();
  private readonly counts = new Map<string, { running: number; writing: number }>();
  /** A task that was in a process when it died runs alone, so that it can take no neighbour with it. */
  private readonly suspects: Held[] = [];
  private suspectRuns = false;
  private running = 0;
  private logFull = false;
  private draining = false;
  private reconnectedAtMs = Number.NEGATIVE_INFINITY;
  private readonly shutdown = new AbortController();
  private readonly options: JobsOptions;
  private readonly attempts: Attempts;
  private readonly putOff: PutOff;
  private cancels: CancelWatch | null = null;

  constructor(options: JobsOptions) {
    this.options = options;
    for (const model of options.runners.keys()) this.counts.set(model, { running: 0, writing: 0 });
    this.putOff = createPutOff(options.bus, options.random);
    this.attempts = createAttempts(options, options.runners.keys(), this.custody());
    options.bus.onReconnect(() => {
      this.reconnectedAtMs = options.clock.monotonicMs();
    });
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
    return Math.min(slots - count.running, HELD_MAX - this.options.board.heldCount);
  }

  get size(): number {
    return this.held.size;
  }

  /** A job for which there was room. */
  take(message: BusMessage, delivery: Delivery): void {
    const { bus, board, clock, log } = this.options;
    const at = parseJob(message.subject);
    const runner = at && this.options.runners.get(at.model);
    if (!at || !runner) return nak(bus, message.reply, 1_000);
    const known = this.held.get(at.taskId);
    if (known) return this.adopt(known, message.reply);
    this.putOff.remove(at.taskId);
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
      waiting: null,
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
    if (job.erased) return this.done(held); // what is erased has ended
    // One that waited may have been cancelled long ago, and one that is overdue may have been ended.
    const waited = job.runAt !== undefined || isOverdue(job, clock.now());
    const fresh =
      delivery.delivered === 1 && !waited && !this.cancels?.mustLook(at.partition, delivery.streamSequence, job.id);
    const work = fresh ? this.attempts.run(held, 1, 0, 0) : this.lookAndRun(held, delivery.delivered);
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

  /** A model server has come up: who waits for one is tried at once. */
  wake(): void {
    this.putOff.wake(this.options.clock.now());
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
    const { bus, clock, partitions } = this.options;
    const [result, event] = await Promise.all([
      readResult(bus, partitions, held.job.id),
      readLast(bus, streams.events, subjects.events(held.job.id), 2_000),
    ]);
    const last = event && parseEventRecord(event.text);
    const now = clock.now();
    const verdict = judge(result, last, delivered, held.maxAttempts, isOverdue(held.job, now), now);
    const begun = last !== null && last.event !== "RETRY" && !last.uncounted;
    // An attempt that left no word may still run elsewhere: its actor was only cut off from a restarted broker.
    if (begun && verdict.kind !== "ended") {
      if ((await askHolders(bus, held.job.id, this.options.actor.id)) > 0) return this.letGo(held, 5_000);
      // Nobody answers, but that actor may not be back yet as we are: no death is counted that may be none.
      const sinceMs = clock.monotonicMs() - this.reconnectedAtMs;
      if (sinceMs < REJOIN_MS_MAX) return this.letGo(held, REJOIN_MS_MAX - sinceMs);
    }
    await this.follow(held, verdict);
  }

  private async follow(held: Held, verdict: Verdict): Promise<void> {
    if (verdict.kind === "ended") return this.done(held);
    held.attempt = verdict.attempt;
    held.eventNumber = verdict.eventNumber;
    if (verdict.kind === "cancelled") {
      held.markerSequence = verdict.markerSequence;
      return this.attempts.end(held, "CANCELLED", null, {});
    }
    if (verdict.kind === "failed") return this.attempts.end(held, "FAILURE", null, { error: verdict.error });
    held.waiting = verdict.waiting ?? null;
    if (verdict.crashes === 0) return this.attempts.run(held, verdict.attempt, 0, verdict.eventNumber);
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
    this.attempts.run(held, held.attempt, held.crashes, held.eventNumber).catch((error) => this.giveUp(held, error));
  }

  private custody(): Custody {
    return {
      ending: this.shutdown.signal,
      holds: (held) => this.held.get(held.job.id) === held,
      freeSlot: (held) => this.freeSlot(held),
      writing: (held) => {
        const count = this.count(held);
        count.writing++;
        return () => {
          count.writing--;
          this.options.onRoom(held.job.model);
        };
      },
      setFull: (full) => this.setFull(full),
      done: (held) => this.done(held),
      letGo: (held, delayMs) => this.letGo(held, delayMs),
      handBackUncounted: (held) => this.handBackUncounted(held),
      putOff: this.putOff,
    };
  }

  private setFull(full: boolean): void {
    if (full && !this.logFull) this.options.log.error({}, "the log of results is full: no new jobs until it has room");
    this.logFull = full;
  }

  private handBackUncounted(held: Held, delayMs = 0): void {
    if (held.attempt > 0 && held.startedAtMs > 0) {
      const event = handedBackEvent(held, held.waiting);
      this.options.bus.publish(subjects.events(held.job.id), JSON.stringify(event));
    }
    this.letGo(held, delayMs);
  }

  private letGo(held: Held, delayMs: number): void {
    const { bus, board } = this.options;
    nak(bus, held.ackSubject, delayMs);
    // It leaves at the end of this turn: until then the board says whose job it is, or a kill would cost it a lease.
    this.forget(held, (slot) => setImmediate(() => board.release(slot)));
  }

  private done(held: Held): void {
    ack(this.options.bus, held.ackSubject);
    this.forget(held);
  }

  /** The work could not be finished for a reason outside of the job: hand it back, another try may do better. */
  private giveUp(held: Held, error: unknown): void {
    const { bus, log } = this.options;
    log.error({ ...logFields(held), error: messageOf(error) }, "job could not be finished; handed back");
    const code = asAppError(error)?.code;
    const counts = code !== "broker_unavailable" && code !== "queue_full";
    // Nobody would hear it while the broker is away, and the job would wait for its lease to lapse.
    void bus.whenConnected(HAND_BACK_MS_MAX).then(() => {
      if (this.held.get(held.job.id) !== held) return;
      if (counts) this.letGo(held, 1_000);
      else this.handBackUncounted(held, 1_000);
    });
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

  private forget(held: Held, release = (slot: number): void => this.options.board.release(slot)): void {
    if (!this.held.delete(held.job.id)) return;
    release(held.slot);
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
