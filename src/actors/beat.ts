// The beat thread of an actor: a worker with a connection of its own, so that a runner that blocks the event loop of the
// process costs no lease. It keeps leases and presence alive, ends a process whose job is over its deadline or does not
// heed a cancel, and ends it when the supervisor has gone. It reads the scoreboard and shares nothing else.
import { type Bus, openBus } from "../bus/connection.ts";
import { ACK_WAIT_MS, working } from "../bus/queues.ts";
import { parseControl, parseJob, subjects } from "../bus/subjects.ts";
import { messageOf } from "../errors.ts";
import { createLog, type Log } from "../log.ts";
import type { ActorEntry, Presence } from "../models/announce.ts";
import { parseControlRequest } from "./cancel-watch.ts";
import { handBackDead } from "./hand-back.ts";
import { type BoardJob, type Fate, watchBoard } from "./scoreboard.ts";

/** What the actor tells its thread, in messages. */
export type ToBeat =
  | {
      readonly type: "start";
      readonly natsUrl: string;
      readonly boardPath: string;
      readonly actorId: string;
      readonly logLevel: string;
      /** Subject and value that say "this actor lives". */
      readonly presence: Presence;
      /** The supervisor's process id; null for an actor that runs alone. */
      readonly supervisorPid: number | null;
    }
  /** To be said of the actor from now on, and at once. */
  | { readonly type: "presence"; readonly fields: Partial<ActorEntry> }
  | { readonly type: "stop" };

export type FromBeat = { readonly type: "started" } | { readonly type: "failed"; readonly message: string };

const TICK_MS = 250;
const BEAT_EVERY_MS = ACK_WAIT_MS / 3;
const PRESENCE_EVERY_MS = 3_000;
/** Sooner, where the actor holds more or fewer jobs than it said. */
const PRESENCE_EVERY_MS_MIN = 1_000;
/** Time a runner has to heed its signal, after its deadline or a cancel, before its process is ended. */
export const GRACE_MS = 5_000;

declare const self: Worker;

interface Watched {
  beatAtMs: number;
  cancelledAtMs: number;
}

class Beat {
  private readonly watched = new Map<string, Watched>();
  private presenceAtMs = 0;
  private saidBusy = 0;
  private fields: Partial<ActorEntry> = {};
  private ending = false;
  private readonly bus: Bus;
  private readonly start: Extract<ToBeat, { type: "start" }>;
  private readonly log: Log;
  private readonly board: ReturnType<typeof watchBoard>;

  constructor(bus: Bus, start: Extract<ToBeat, { type: "start" }>, log: Log) {
    this.bus = bus;
    this.start = start;
    this.log = log;
    this.board = watchBoard(start.boardPath);
    bus.subscribe(subjects.anyControl, (message) => {
      const taskId = parseControl(message.subject);
      const request = parseControlRequest(message.text());
      if (!taskId || !request || request.from === start.actorId) return;
      const job = this.board.jobs().find((candidate) => candidate.jobSubject.endsWith(`.${taskId}`));
      if (!job) return; // only the main thread may say "free": it knows what has arrived
      if (request.cancel !== null) this.watch(job).cancelledAtMs ||= Date.now();
      bus.publish(message.reply, "held");
    });
  }

  tick(): void {
    const { supervisorPid } = this.start;
    if (supervisorPid !== null && process.ppid !== supervisorPid) return this.kill("the supervisor has gone");
    if (this.ending) return;
    const now = Date.now();
    const jobs = this.board.jobs();
    const known = new Set(jobs.map((job) => job.ackSubject));
    for (const key of this.watched.keys()) if (!known.has(key)) this.watched.delete(key);
    for (const job of jobs) {
      const watched = this.watch(job);
      if (now - watched.beatAtMs >= BEAT_EVERY_MS) {
        watched.beatAtMs = now;
        working(this.bus, job.ackSubject);
      }
      const why = overdue(job, watched, now);
      if (why) return this.end(job, jobs, why);
    }
    this.say(now, jobs.length);
  }

  learn(fields: Partial<ActorEntry>): void {
    this.fields = { ...this.fields, ...fields };
    this.presenceAtMs = 0;
    this.tick();
  }

  /** The actor lives, and holds so many jobs. */
  private say(now: number, busy: number): void {
    const everyMs = busy === this.saidBusy ? PRESENCE_EVERY_MS : PRESENCE_EVERY_MS_MIN;
    if (now - this.presenceAtMs < everyMs) return;
    this.presenceAtMs = now;
    this.saidBusy = busy;
    const { subject, entry } = this.start.presence;
    this.bus.publish(subject, JSON.stringify({ ...entry, ...this.fields, busy }));
  }

  private watch(job: BoardJob): Watched {
    let watched = this.watched.get(job.ackSubject);
    if (!watched) {
      watched = { beatAtMs: Date.now(), cancelledAtMs: 0 };
      this.watched.set(job.ackSubject, watched);
    }
    return watched;
  }

  /** Ends the process; its jobs go back to the queue, the culprit's attempt counted and its neighbours' not. */
  private end(culprit: BoardJob, jobs: readonly BoardJob[], why: "timeout" | "cancel"): void {
    this.ending = true;
    const taskId = parseJob(culprit.jobSubject)?.taskId;
    this.log.error({ task_id: taskId, attempt: culprit.attempt, why }, "the runner does not stop; ending its process");
    const sealed = jobs.map((job) => {
      const fate: Fate = job === culprit ? why : "neighbour";
      this.board.seal(job.slot, fate);
      return { ...job, fate };
    });
    // The supervisor hands them back once the process is gone: while it lives, it could be given them again.
    if (this.start.supervisorPid !== null) return this.kill(why);
    handBackDead(this.bus, sealed, Math.random)
      .catch((error) => {
        this.log.error({ error: messageOf(error) }, "could not hand back; the lease will lapse");
      })
      .finally(() => this.kill(why));
  }

  private kill(why: string): void {
    this.log.warn({ why }, "actor process ends itself");
    process.kill(process.pid, "SIGKILL");
  }
}

function overdue(job: BoardJob, watched: Watched, nowMs: number): "timeout" | "cancel" | null {
  if (watched.cancelledAtMs > 0 && nowMs - watched.cancelledAtMs > GRACE_MS) return "cancel";
  return job.deadlineMs > 0 && nowMs - job.deadlineMs > GRACE_MS ? "timeout" : null;
}

async function main(start: Extract<ToBeat, { type: "start" }>): Promise<void> {
  const log = createLog("beat", start.logLevel).child({ actor: start.actorId });
  const bus = await openBus(start.natsUrl, `millrace beat ${start.actorId}`, log);
  const beat = new Beat(bus, start, log);
  beat.tick();
  await bus.flush(5_000);
  const timer = setInterval(() => beat.tick(), TICK_MS);
  self.onmessage = (event: MessageEvent<ToBeat>) => {
    if (event.data.type === "presence") return beat.learn(event.data.fields);
    clearInterval(timer);
    void bus.close().finally(() => process.exit(0));
  };
  self.postMessage({ type: "started" } satisfies FromBeat);
}

self.onmessage = (event: MessageEvent<ToBeat>) => {
  if (event.data.type !== "start") return;
  main(event.data).catch((error) => self.postMessage({ type: "failed", message: messageOf(error) } satisfies FromBeat));
};
