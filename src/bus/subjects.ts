// Every NATS subject, stream, consumer and bucket name of Millrace is built here and parsed here, and nowhere else.
// Names from outside (models, ids) are encoded as tokens, so that no `.`, `*` or `>` of theirs can widen a subject.

export const levels = ["high", "normal", "low"] as const;
export type Level = (typeof levels)[number];

/** Two lanes a level, for fairness between keys: a for a key's first tasks in a queue, b for those beyond. */
export type Lane = "a" | "b";

export const terminalTokens = ["success", "failure", "cancelled"] as const;
export type ResultToken = (typeof terminalTokens)[number] | "cancelling";

/** A name as one subject token: `[A-Za-z0-9_-]` as is, every other byte of its UTF-8 as `=XX`. Reversible. */
export function token(name: string): string {
  if (/^[A-Za-z0-9_-]+$/.test(name)) return name;
  let text = "";
  for (const byte of new TextEncoder().encode(name)) {
    const character = String.fromCharCode(byte);
    text += /[A-Za-z0-9_-]/.test(character) ? character : `=${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return text;
}

/** The name that `token` encoded; null for text that no name encodes to. */
export function untoken(text: string): string | null {
  if (/^[A-Za-z0-9_-]+$/.test(text)) return text;
  if (!/^(?:[A-Za-z0-9_-]|=[0-9A-F]{2})+$/.test(text)) return null;
  const bytes: number[] = [];
  for (let i = 0; i < text.length; i++) {
    if (text[i] !== "=") bytes.push(text.charCodeAt(i));
    else {
      bytes.push(Number.parseInt(text.slice(i + 1, i + 3), 16));
      i += 2;
    }
  }
  try {
    const name = new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array(bytes));
    return token(name) === text ? name : null;
  } catch {
    return null; // not UTF-8
  }
}

/** Where a queue's jobs are: one durable consumer each. */
export interface QueueAddress {
  readonly partition: number;
  readonly level: Level;
  readonly lane: Lane;
  readonly model: string;
}

export const streams = {
  jobs: (partition: number): string => `JOBS_${partition}`,
  results: (partition: number): string => `RESULTS_${partition}`,
  events: "EVENTS",
} as const;

export const buckets = { models: "models", actors: "actors" } as const;

/** The stream behind a bucket, and the subject of one of its keys. */
export const bucketStream = (bucket: string): string => `KV_${bucket}`;
export const bucketSubject = (bucket: string, key: string): string => `$KV.${bucket}.${token(key)}`;
export const anyInBucket = (bucket: string): string => `$KV.${bucket}.>`;

export const subjects = {
  job: (at: QueueAddress, taskId: string): string =>
    `millrace.jobs.${at.partition}.${at.level}.${at.lane}.${token(at.model)}.${taskId}`,
  /** Where a job waits for its time: no queue's, so no actor hears it. */
  later: (at: Omit<QueueAddress, "level">, taskId: string): string =>
    `millrace.jobs.${at.partition}.later.${at.lane}.${token(at.model)}.${taskId}`,
  laterPrefix: (partition: number): string => `millrace.jobs.${partition}.later.`,
  /** Covers the job of a task whatever its level, lane and model: the filter of its compare-and-set. */
  anyJob: (partition: number, taskId: string): string => `millrace.jobs.${partition}.*.*.*.${taskId}`,
  queue: (at: QueueAddress): string => `millrace.jobs.${at.partition}.${at.level}.${at.lane}.${token(at.model)}.*`,
  result: (partition: number, model: string, status: ResultToken, taskId: string): string =>
    `millrace.results.${partition}.${token(model)}.${status}.${taskId}`,
  anyResult: (partition: number, taskId: string): string => `millrace.results.${partition}.*.*.${taskId}`,
  successes: (partition: number, model: string): string => `millrace.results.${partition}.${token(model)}.success.*`,
  events: (taskId: string): string => `millrace.events.${taskId}`,
  bell: (model: string): string => `millrace.bell.${token(model)}`,
  control: (taskId: string): string => `millrace.control.${taskId}`,
  anyControl: "millrace.control.*",
  /** The service that takes tasks. */
  submit: "millrace.submit",
  /** Actors ask gateways: what their runners' calls used, and whether a key has tokens left. */
  usage: "millrace.usage",
  /** Where services are asked for (NATS micro protocol): all of them, those of a name, or one. */
  discovery: (verb: "PING" | "INFO" | "STATS", ...names: readonly string[]): string =>
    ["$SRV", verb, ...names.map(token)].join("."),
  /** Live calls, to one actor. */
  liveActor: (actorId: string): string => `millrace.live.actor.${token(actorId)}`,
  callback: (taskId: string): string => `millrace.callback.${taskId}`,
  anyCallback: "millrace.callback.*",
} as const;

/** The durable consumer of a queue, unique within its stream. */
export const consumerName = (at: QueueAddress): string => `${at.level}_${at.lane}_${token(at.model)}`;

/** The queue that a durable consumer of JOBS_p serves; null for a consumer that is not ours. */
export function parseConsumerName(partition: number, name: string): QueueAddress | null {
  const match = /^(high|normal|low)_([ab])_(.+)$/.exec(name);
  const model = match?.[3] ? untoken(match[3]) : null;
  return match && model !== null ? { partition, level: match[1] as Level, lane: match[2] as Lane, model } : null;
}

export interface JobSubject extends QueueAddress {
  readonly taskId: string;
}

export function parseJob(subject: string): JobSubject | null {
  const match = /^millrace\.jobs\.(\d+)\.(high|normal|low)\.([ab])\.([^.]+)\.([0-9a-z]{26})$/.exec(subject);
  const model = match?.[4] ? untoken(match[4]) : null;
  if (!match || model === null) return null;
  const [, partition, level, lane, , taskId] = match;
  return { partition: Number(partition), level: level as Level, lane: lane as Lane, model, taskId: taskId ?? "" };
}

export type LaterSubject = Omit<JobSubject, "level">;

/** A job that waits for its time; null for one in a queue. */
export function parseLater(subject: string): LaterSubject | null {
  const match = /^millrace\.jobs\.(\d+)\.later\.([ab])\.([^.]+)\.([0-9a-z]{26})$/.exec(subject);
  const model = match?.[3] ? untoken(match[3]) : null;
  if (!match || model === null) return null;
  return { partition: Number(match[1]), lane: match[2] as Lane, model, taskId: match[4] ?? "" };
}

export interface ResultSubject {
  readonly partition: number;
  readonly model: string;
  readonly status: ResultToken;
  readonly taskId: string;
}

export function parseResult(subject: string): ResultSubject | null {
  const match = /^millrace\.results\.(\d+)\.([^.]+)\.(success|failure|cancelled|cancelling)\.([0-9a-z]{26})$/.exec(
    subject,
  );
  const model = match?.[2] ? untoken(match[2]) : null;
  if (!match || model === null) return null;
  return { partition: Number(match[1]), model, status: match[3] as ResultToken, taskId: match[4] ?? "" };
}

/** The task of a control subject; null for another subject. */
export const parseControl = (subject: string): string | null =>
  /^millrace\.control\.([0-9a-z]{26})$/.exec(subject)?.[1] ?? null;

/** What a JetStream ack subject (the reply of a delivered message) tells. Both forms: before and since server 2.15. */
export interface Delivery {
  readonly stream: string;
  readonly consumer: string;
  /** 1 on the first delivery; forgotten when the broker is killed. */
  readonly delivered: number;
  readonly streamSequence: number;
  readonly consumerSequence: number;
  /** When the broker stored it, milliseconds since the epoch. */
  readonly storedAtMs: number;
  /** Messages of the consumer still undelivered. */
  readonly pending: number;
}

export function parseDelivery(ackSubject: string): Delivery | null {
  const tokens = ackSubject.split(".");
  const at = tokens.length === 9 ? 2 : tokens.length >= 11 ? 4 : -1;
  if (at < 0 || tokens[0] !== "$JS" || tokens[1] !== "ACK") return null;
  return {
    stream: tokens[at] ?? "",
    consumer: tokens[at + 1] ?? "",
    delivered: Number(tokens[at + 2]),
    streamSequence: Number(tokens[at + 3]),
    consumerSequence: Number(tokens[at + 4]),
    storedAtMs: Number(tokens[at + 5]) / 1_000_000,
    pending: Number(tokens[at + 6]),
  };
}
