// Two workers, a gateway and a broker as a few dozen lines of state, driven by random numbers: what a task may meet in
// its life, thousands of times in a second. The decisions are the real ones (judge, step); the log is a list with the
// broker's compare-and-set, the queue what JetStream promises of it and no more. Each step checks what must always hold
// and throws where it does not.
import { judge, type Verdict } from "../src/actors/history.ts";
import type { StoredResult } from "../src/tasks/commit.ts";
import { type EventRecord, statusOf, type Waiting } from "../src/tasks/records.ts";
import { initial, isTerminal, step, type TaskTransition } from "../src/tasks/task.ts";
import type { RandomNumbers } from "./random-numbers.ts";

type Token = StoredResult["record"]["token"];

interface Held {
  attempt: number;
  crashes: number;
  eventNumber: number;
  /** Set while it waits for a model server. */
  waiting: Waiting | null;
  /** 0: no cancel was heard of. */
  markerSequence: number;
}

interface Worker {
  readonly held: Map<Task, Held>;
  /** Stopped or cut off: it works on, or not, and answers nobody. */
  deaf: boolean;
}

interface Task {
  readonly id: string;
  readonly maxAttempts: number;
  readonly results: StoredResult[];
  /** What the log still holds; a killed broker forgets the last ones. */
  events: EventRecord[];
  /** All that was ever published, for the read model. */
  readonly heard: TaskTransition[];
  /** May be delivered. */
  waits: boolean;
  acked: boolean;
  delivered: number;
  /** A first delivery may be run unseen: stored since the workers began to listen, no cancel heard. */
  fresh: boolean;
  /** Attempts that ended with their process, or were taken over from one that gave no answer. */
  deaths: number;
  /** Its last event may not know of every death: some were lost, or two attempts wrote at once. */
  forgot: boolean;
}

export interface Counts {
  readonly ends: Record<string, number>;
  starts: number;
  waits: number;
}

const TASKS = 3;
const RETRY_ERROR = { code: "runner_failed", message: "", stage: "infer", retryable: true };

export class Simulation {
  readonly counts: Counts = { ends: {}, starts: 0, waits: 0 };
  private readonly random: RandomNumbers;
  private readonly workers: readonly Worker[];
  private readonly tasks: Task[] = [];
  private sequence = 0;
  private fences = 0;

  constructor(random: RandomNumbers) {
    this.random = random;
    this.workers = [1, 2].map(() => ({ held: new Map(), deaf: false }));
  }

  /** `steps` random things happen; then nothing more goes wrong, and every task must end. */
  run(steps: number): void {
    this.submit();
    for (let n = 0; n < steps; n++) this.something();
    for (const worker of this.workers) worker.deaf = false;
    for (let n = 0; n < 200 && this.tasks.some((task) => !this.ended(task)); n++) this.onward();
    for (const task of this.tasks) {
      if (!this.ended(task)) this.fail("a task with work left does not end", task);
      this.checkReadModel(task);
    }
  }

  private something(): void {
    const worker = this.pick(this.workers);
    const task = this.pick(this.tasks);
    const held = worker.held.get(task);
    const can = this.random.below(100);
    if (can < 5) this.submit();
    else if (can < 40) this.deliver(worker, task);
    else if (can < 60 && held) this.finish(worker, task, held);
    else if (can < 64 && held) this.attemptFails(worker, task, held);
    else if (can < 66 && held) this.putOff(worker, task, held);
    else if (can < 72) this.crash(worker, this.random.below(4) > 0);
    else if (can < 80) this.redeliver(task);
    else if (can < 86) this.cancel(task);
    else if (can < 90 && held) this.handBack(worker, task, held);
    else if (can < 94) this.brokerDies();
    else worker.deaf = this.random.below(3) === 0;
  }

  /** What happens when nothing goes wrong any more: leases lapse, jobs are delivered, what runs is finished. */
  private onward(): void {
    for (const task of this.tasks) {
      for (const worker of this.workers) {
        const held = worker.held.get(task);
        if (held) this.finish(worker, task, held);
      }
      if (!task.acked && !this.holders(task).length) task.waits = true;
      this.deliver(this.pick(this.workers), task);
    }
  }

  private submit(): void {
    if (this.tasks.length === TASKS) return;
    this.tasks.push({
      id: `task-${this.tasks.length}`,
      maxAttempts: 1 + this.random.below(4),
      results: [],
      events: [],
      heard: [],
      waits: true,
      acked: false,
      delivered: 0,
      fresh: true,
      deaths: 0,
      forgot: false,
    });
  }

  private deliver(worker: Worker, task: Task): void {
    if (!task.waits || worker.deaf) return;
    task.waits = false;
    task.delivered++;
    if (worker.held.has(task)) return; // adopts the newer delivery
    const stored = task.results.at(-1) ?? null;
    if (task.delivered === 1 && task.fresh) {
      return this.start(worker, task, { kind: "run", attempt: 1, crashes: 0, eventNumber: 0 });
    }
    const last = task.events.at(-1) ?? null;
    const verdict = judge(stored, last, task.delivered, task.maxAttempts);
    const begun = last !== null && last.event !== "RETRY" && !last.uncounted;
    if (begun && verdict.kind !== "ended") {
      if (this.holders(task).some((holder) => !holder.deaf)) {
        task.waits = true;
        return;
      }
      task.deaths++; // whether it has died or is deaf
    }
    if (stored && verdict.kind !== (statusOf(stored.record.token) ? "ended" : "cancelled")) {
      this.fail(`${verdict.kind} although ${stored.record.token} stands`, task);
    }
    if (verdict.kind === "ended") this.ack(task);
    else if (verdict.kind === "cancelled") this.end(worker, task, "cancelled", verdict.markerSequence);
    else if (verdict.kind === "failed") {
      if (verdict.error.code === "poison" && task.deaths < 2) this.fail("poison without two deaths", task);
      this.end(worker, task, "failure", 0);
    } else this.start(worker, task, verdict);
  }

  private start(worker: Worker, task: Task, verdict: Extract<Verdict, { kind: "run" }>): void {
    const { attempt, crashes, eventNumber, waiting = null } = verdict;
    if (attempt > task.maxAttempts) this.fail(`attempt ${attempt} of ${task.maxAttempts}`, task);
    if (crashes >= 2 || (task.deaths >= 2 && !task.forgot)) this.fail("begun again after two deaths", task);
    task.forgot ||= this.holders(task).length > 0;
    const held = { attempt, crashes, eventNumber: eventNumber + 1, waiting, markerSequence: 0 };
    worker.held.set(task, held);
    this.counts.starts++;
    this.event(task, held, "STARTED", held.crashes);
    task.heard.push({ kind: "started", attempt });
  }

  private finish(worker: Worker, task: Task, held: Held): void {
    if (held.markerSequence > 0) this.end(worker, task, "cancelled", held.markerSequence);
    else this.end(worker, task, "success", 0);
  }

  private attemptFails(worker: Worker, task: Task, held: Held): void {
    if (held.attempt >= task.maxAttempts) return this.end(worker, task, "failure", 0);
    held.waiting = null;
    held.eventNumber++;
    this.event(task, held, "RETRY", held.crashes);
    task.heard.push({ kind: "retried", attempt: held.attempt });
    worker.held.delete(task);
    task.waits = true;
  }

  /** No model server has begun on it: the attempt does not count. */
  private putOff(worker: Worker, task: Task, held: Held): void {
    held.eventNumber++;
    held.waiting = { sinceMs: 0, tries: (held.waiting?.tries ?? 0) + 1 };
    this.event(task, held, "RETRY", held.crashes, true);
    task.heard.push({ kind: "retried", attempt: held.attempt });
    this.counts.waits++;
    worker.held.delete(task);
    task.waits = true;
  }

  /** With a supervisor, which leaves word and hands back; or with the whole host, and leases must lapse. */
  private crash(worker: Worker, supervised: boolean): void {
    for (const [task, held] of worker.held) {
      if (supervised) {
        task.deaths++;
        held.waiting = null;
        held.eventNumber++;
        this.event(task, held, "RETRY", held.crashes + 1);
        task.heard.push({ kind: "retried", attempt: held.attempt });
      }
      task.waits = !task.acked;
    }
    worker.held.clear();
    worker.deaf = false;
  }

  /** A lease that lapsed, or a hand-back by somebody else, while it may still run. */
  private redeliver(task: Task): void {
    if (!task.acked && task.delivered > 0) task.waits = true;
  }

  private cancel(task: Task): void {
    if (this.ended(task)) return;
    if (task.results.length === 0) this.append(task, "cancelling", 0);
    const marker = task.results.at(-1);
    if (marker?.record.token !== "cancelling") this.fail("a cancel met an end", task);
    task.fresh = false;
    const holders = this.holders(task);
    for (const worker of holders) {
      const held = worker.held.get(task);
      if (held && !worker.deaf) held.markerSequence = marker?.sequence ?? 0;
    }
    const allAnswer = this.workers.every((worker) => !worker.deaf);
    if (allAnswer && holders.length === 0) this.append(task, "cancelled", marker?.sequence ?? 0);
  }

  /** A drain: the attempt does not count. */
  private handBack(worker: Worker, task: Task, held: Held): void {
    held.eventNumber++;
    this.event(task, held, "log", held.crashes, true);
    worker.held.delete(task);
    task.waits = true;
  }

  /** Counts of deliveries, the last acks and the last events are gone; both logs are not. */
  private brokerDies(): void {
    for (const task of this.tasks) {
      task.fresh = false;
      task.delivered = 0;
      if (this.random.below(2) === 0) task.acked = false;
      if (!task.acked) task.waits = true;
      const lost = Math.min(this.random.below(3), task.events.length);
      task.events = task.events.slice(0, task.events.length - lost);
      task.forgot ||= lost > 0;
    }
  }

  private end(worker: Worker, task: Task, token: Token, expected: number): void {
    const refusedBy = this.append(task, token, expected);
    if (refusedBy?.record.token === "cancelling" && token !== "cancelled") {
      this.append(task, "cancelled", refusedBy.sequence);
    }
    worker.held.delete(task);
    this.ack(task);
  }

  /** The broker's compare-and-set. Null: stored; else what stands. A lost PubAck is repeated, and finds its own fence. */
  private append(task: Task, token: Token, expected: number): StoredResult | null {
    const fence = String(++this.fences);
    for (;;) {
      const last = task.results.at(-1);
      if (last?.record.fence === fence) return null;
      if ((last?.sequence ?? 0) !== expected) return last ?? null;
      const record = { token, taskId: task.id, timeMs: 0, keyId: "", fence, eventId: "", dataJson: "" };
      task.results.push({ record, sequence: ++this.sequence });
      this.checkLog(task);
      if (this.random.below(4) > 0) return null;
    }
  }

  private checkLog(task: Task): void {
    const tokens = task.results.map(({ record }) => record.token).join(" ");
    if (!/^(success|failure|cancelling|cancelling cancelled)$/.test(tokens)) this.fail(`the log holds ${tokens}`, task);
    const status = statusOf(task.results.at(-1)?.record.token ?? "cancelling");
    if (!status) return;
    task.heard.push({ kind: "ended", status, attempt: task.events.at(-1)?.attempt ?? 0 });
    this.counts.ends[status] = (this.counts.ends[status] ?? 0) + 1;
  }

  /** A read model that hears of things late, twice and in any order once they have ended shows the end of the log. */
  private checkReadModel(task: Task): void {
    const end = statusOf(task.results.at(-1)?.record.token ?? "cancelling");
    let state = initial;
    for (const transition of [...task.heard, ...task.heard]) {
      const next = step(state, transition);
      if (isTerminal(state.status) && next !== state) this.fail("the read model left an end", task);
      if (next.attempt < state.attempt) this.fail("the read model went back", task);
      state = next;
    }
    if (state.status !== end) this.fail(`the read model says ${state.status}, the log ${end}`, task);
  }

  private event(task: Task, held: Held, event: string, crashes: number, uncounted = false): void {
    const { attempt, eventNumber, waiting } = held;
    const more = { ...(uncounted && { uncounted: true as const }), ...(waiting && { waiting }) };
    task.events.push({ v: 1, attempt, n: eventNumber, crashes, event, data: { error: RETRY_ERROR }, ...more });
  }

  private ack(task: Task): void {
    task.acked = true;
    task.waits = false;
  }

  private ended(task: Task): boolean {
    const last = task.results.at(-1);
    return last !== undefined && statusOf(last.record.token) !== null;
  }

  private holders(task: Task): Worker[] {
    return this.workers.filter((worker) => worker.held.has(task));
  }

  private pick<T>(from: readonly T[]): T {
    const found = from[this.random.below(from.length)];
    if (found === undefined) throw new RangeError("nothing to pick from");
    return found;
  }

  private fail(what: string, task: Task): never {
    const log = task.results.map(({ record }) => record.token);
    throw new Error(`${what}: ${JSON.stringify({ task: task.id, log, events: task.events })}`);
  }
}
