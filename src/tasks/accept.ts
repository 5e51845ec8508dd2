// Accepts tasks: a job is published by compare-and-set, and the broker's ack is the acceptance. Called by gateways with
// a request that has been checked. It never answers "accepted" before the ack, and never doubles a task whose ack was
// lost: it publishes again, is refused, and finds its own nonce.
import type { Blobs } from "../blobs/blobs.ts";
import type { Bus } from "../bus/connection.ts";
import { type Appended, append, readLast } from "../bus/log.ts";
import { ensureQueue } from "../bus/queues.ts";
import { consumerName, type QueueAddress, streams, subjects } from "../bus/subjects.ts";
import type { Clock } from "../clock.ts";
import { AppError, asAppError, invalidField } from "../errors.ts";
import { derivedTaskId, partitionOf, randomTaskId, randomToken } from "../ids.ts";
import { callbackOf } from "./callback.ts";
import { requestHash } from "./canonical.ts";
import type { Caps } from "./caps.ts";
import type { Lanes } from "./lanes.ts";
import { readJob } from "./read-job.ts";
import { INLINE_INPUT_BYTES_MAX, type InputReference, type JobRecord, parseJobRecord } from "./records.ts";
import type { Owner, TaskRequest } from "./tasks.ts";
import { startTimes, timesProblem } from "./times.ts";

export interface Acceptance {
  readonly job: JobRecord;
  /** True when it had been accepted before. */
  readonly replayed: boolean;
}

export interface AcceptOptions {
  readonly bus: Bus;
  readonly blobs: Blobs;
  readonly partitions: number;
  readonly clock: Clock;
  /** True while new work is refused so that results find room. */
  readonly isFull: () => boolean;
  /** Why results cannot be sent to a URL, for the client; null when they can. */
  readonly callbackProblem: (url: string) => string | null;
  readonly place: Lanes["place"];
  readonly takeRoom: Caps["take"];
}

export type Accept = (request: TaskRequest, owner: Owner, trace: string | null) => Promise<Acceptance>;

/** A client waits for this; beyond it the outcome is unknown and it is told so. */
const ACCEPT_MS_MAX = 5_000;
/** One publish; a broker that was restarted answers the next one. */
const PUBLISH_MS_MAX = 1_500;

export function createAccept(options: AcceptOptions): Accept {
  const { bus, blobs, partitions, clock } = options;
  const ring = createBells(bus);
  const queues = createQueueGuard(bus);

  const keep = async (request: TaskRequest, owner: Owner, trace: string | null, due: Due): Promise<Acceptance> => {
    const { taskId, created, times, inputJson } = due;
    const crid = request.client_request_id;
    const { model, priority: level = "normal" } = request;
    const waits = times?.runAt !== undefined && times.runAt > created;
    const nonce = randomToken();
    const inputRef = await storeLargeInput(blobs, taskId, nonce, inputJson);
    const job: Omit<JobRecord, "input"> = {
      v: 1,
      id: taskId,
      key: owner.keyId,
      hash: crid === undefined ? "" : requestHash(request),
      nonce,
      created,
      trace: trace ?? "",
      model,
      priority: level,
      ...(inputRef && { inputRef }),
      ...times,
      ...optionsOf(request),
      metadata: request.metadata ?? {},
    };
    const payload = inputRef ? JSON.stringify(job) : `${JSON.stringify(job).slice(0, -1)},"input":${inputJson}}`;
    // A job that waits for its time is given its lane then.
    const place = waits ? null : options.place(taskId, { keyId: owner.keyId, level, model });
    const at: QueueAddress = { partition: partitionOf(taskId, partitions), level, lane: place?.lane ?? "a", model };
    let stored = false;
    try {
      await queues.ensure(at);
      const subject = waits ? subjects.later(at, taskId) : subjects.job(at, taskId);
      const standing = await publish(bus, at.partition, subject, taskId, payload);
      if (standing === null || standing.nonce === nonce) {
        stored = true;
        if (!waits) ring(at);
        return { job, replayed: false };
      }
      if (standing.hash !== job.hash) throw mismatch();
      if (inputRef) await blobs.delete(inputRef.key);
      return { job: standing, replayed: true };
    } catch (error) {
      // Where the outcome is unknown the job may stand and name the blob: it stays.
      if (inputRef && asAppError(error)?.code !== "broker_unavailable") await blobs.delete(inputRef.key);
      throw error;
    } finally {
      if (!stored) place?.giveBack();
    }
  };

  return async (request, owner, trace) => {
    const crid = request.client_request_id;
    const created = clock.now();
    const taskId = crid === undefined ? randomTaskId(created) : derivedTaskId(owner.keyId, crid);
    const times = startTimes(request, created);
    const inputJson = JSON.stringify(request.input);
    const invalid = (times && timesProblem(request, times, created)) ?? callbackRefusal(options, request.callback_url);
    const refusal = invalid ?? (options.isFull() ? queueFull() : null);
    const taken = refusal ?? options.takeRoom(taskId, owner.keyId, inputJson);
    const room = taken instanceof Promise ? await taken : taken;
    const refused = asAppError(room);
    if (refused && (crid === undefined || !(await stands(bus, partitions, taskId)))) throw refused;
    let kept = false;
    try {
      const acceptance = await keep(request, owner, trace, { taskId, created, times, inputJson });
      kept = !acceptance.replayed;
      return acceptance;
    } finally {
      if (!kept && !(room instanceof Error)) room.giveBack();
    }
  };
}

/** What is known of a task when it is to be kept. */
interface Due {
  readonly taskId: string;
  readonly created: number;
  readonly times: ReturnType<typeof startTimes>;
  readonly inputJson: string;
}

const mismatch = (): AppError =>
  new AppError(
    "idempotency_mismatch",
    "This client_request_id was used for a request with another body; use a new one",
  );

/** What a request may say of its task, and need not. */
const optionsOf = (request: TaskRequest): Pick<JobRecord, "maxAttempts" | "timeoutMs" | "retryOf" | "callback"> => ({
  ...(request.max_attempts !== undefined && { maxAttempts: request.max_attempts }),
  ...(request.timeout_ms !== undefined && { timeoutMs: request.timeout_ms }),
  ...(request.retry_of !== undefined && { retryOf: request.retry_of }),
  ...(request.callback_url !== undefined && { callback: callbackOf(request.callback_url, request.callback_events) }),
});

const queueFull = (): AppError =>
  new AppError("queue_full", "The queue is nearly full: no new tasks until it has room", { retryAfterS: 5 });

function callbackRefusal(options: AcceptOptions, url: string | undefined): AppError | null {
  const message = url === undefined ? null : options.callbackProblem(url);
  return message === null ? null : invalidField("/callback_url", message);
}

/** Whether the task was accepted before: asking for it again takes no room, and its times were right then. */
const stands = async (bus: Bus, partitions: number, taskId: string): Promise<boolean> =>
  (await readJob(bus, partitions, taskId, ACCEPT_MS_MAX)) !== null;

/** Null when this publish stored the job, else the job that stands. */
async function publish(
  bus: Bus,
  partition: number,
  subject: string,
  taskId: string,
  payload: string,
): Promise<JobRecord | null> {
  const filter = subjects.anyJob(partition, taskId);
  const deadline = performance.now() + ACCEPT_MS_MAX;
  for (;;) {
    try {
      const record = { subject, filter, payload, expectedSequence: 0, timeoutMs: PUBLISH_MS_MAX };
      const outcome: Appended = await append(bus, record);
      if (outcome.kind === "stored") return null;
      const standing = await readLast(bus, streams.jobs(partition), filter, PUBLISH_MS_MAX);
      if (standing) return parseJobRecord(standing.text);
      // Refused, and gone since: the janitor has just freed this id. The next publish takes it.
    } catch (error) {
      const leftMs = deadline - performance.now();
      if (asAppError(error)?.code !== "broker_unavailable" || leftMs <= 0) throw error;
      if (!(await bus.whenConnected(leftMs))) throw error;
    }
    if (performance.now() > deadline) {
      throw new AppError("broker_unavailable", "the broker did not take the task in time", { retryAfterS: 1 });
    }
  }
}

async function storeLargeInput(
  blobs: Blobs,
  taskId: string,
  nonce: string,
  inputJson: string,
): Promise<InputReference | undefined> {
  // A string's UTF-8 is at least as long as its UTF-16 units: the cheap check first.
  const small = inputJson.length <= INLINE_INPUT_BYTES_MAX && Buffer.byteLength(inputJson) <= INLINE_INPUT_BYTES_MAX;
  if (small) return undefined;
  const bytes = new TextEncoder().encode(inputJson);
  const key = `inputs/${taskId}-${nonce}.json`;
  const stat = await blobs.put(key, bytes, { contentType: "application/json", sizeBytes: bytes.byteLength });
  return { key, sha256: stat.sha256, sizeBytes: stat.sizeBytes };
}

/** Makes each queue's consumer before its first job, once. */
export function createQueueGuard(bus: Bus): { ensure(at: QueueAddress): Promise<void> | void } {
  const known = new Set<string>();
  return {
    ensure(at) {
      const key = `${at.partition}/${consumerName(at)}`;
      if (known.has(key)) return;
      return ensureQueue(bus, at).then(() => {
        known.add(key);
      });
    },
  };
}

/** Rings the model's bell once per turn of the event loop, with the counts of all jobs accepted in it. */
export function createBells(bus: Bus): (at: QueueAddress) => void {
  const rung = new Map<string, [number, string, string, number]>();
  const models = new Map<string, string[]>();
  const flush = (): void => {
    for (const [model, keys] of models) {
      bus.publish(subjects.bell(model), JSON.stringify(keys.map((key) => rung.get(key))));
    }
    rung.clear();
    models.clear();
  };
  return (at) => {
    if (rung.size === 0) setImmediate(flush);
    const key = `${at.partition}/${consumerName(at)}`;
    const entry = rung.get(key);
    if (entry) {
      entry[3]++;
      return;
    }
    rung.set(key, [at.partition, at.level, at.lane, 1]);
    const keys = models.get(at.model);
    if (keys) keys.push(key);
    else models.set(at.model, [key]);
  };
}
