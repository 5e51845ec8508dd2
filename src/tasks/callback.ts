// What a task's owner asked to be told, and where: carried in the job, marked in a header of the result. What happens
// on the way is told by messages of their own, which nothing keeps; webhooks/ sends all of it.
import type { Headers } from "../bus/connection.ts";
import { rfc3339 } from "../clock.ts";
import { openTaskView } from "./open-task-view.ts";
import type { JobRecord } from "./records.ts";

export const callbackEvents = ["started", "progress", "completed"] as const;
export type CallbackEvent = (typeof callbackEvents)[number];

export interface Callback {
  readonly url: string;
  readonly events: readonly CallbackEvent[];
}

/** On results whose end is to be told, with the value `completed`: a reader of headers alone finds them. */
export const CALLBACK_HEADER = "Millrace-Callback";

export const wantsEnd = (callback: Callback | undefined): boolean => callback?.events.includes("completed") === true;

/** The headers of a result, for a task with this callback. */
export const callbackHeaders = (callback: Callback | undefined): Headers =>
  wantsEnd(callback) ? { [CALLBACK_HEADER]: "completed" } : {};

/** Said when such a result stands, so that nobody has to look for it all the time; whoever misses it finds it later. */
export const ENDED = "ended";

/** `completed` alone unless others are named. */
export const callbackOf = (url: string, events: readonly CallbackEvent[] = ["completed"]): Callback => ({
  url,
  events,
});

/** Something on the way of a task, told once and at best effort. */
export interface LiveCallback {
  readonly v: 1;
  readonly key: string;
  readonly url: string;
  readonly task: string;
  readonly event: Exclude<CallbackEvent, "completed">;
  /** Tells it from all other events of the task, and of another task of the same id. */
  readonly id: string;
  readonly timeMs: number;
  /** The public task object as it is now. */
  readonly data: unknown;
}

/** Where the attempt stands that tells. */
export interface Telling {
  readonly attempt: number;
  readonly eventNumber: number;
  readonly startedAtMs: number;
  readonly actor: { readonly id: string; readonly gpu: string };
  readonly nowMs: number;
}

/** The message that tells `event`, as JSON; null where the owner did not ask for it. `progress` goes with its kind. */
export function liveCallback(
  job: JobRecord,
  event: LiveCallback["event"],
  { attempt, eventNumber, startedAtMs, actor, nowMs }: Telling,
  progress?: unknown,
): string | null {
  if (!job.callback?.events.includes(event)) return null;
  const started = { actor, started_at: rfc3339(startedAtMs) };
  const view = openTaskView(job, { status: "STARTED", attempt, started });
  const data = progress === undefined ? view : { ...view, progress };
  const id = `${job.created.toString(36)}_${event}_${attempt}-${eventNumber}`;
  const live: LiveCallback = {
    v: 1,
    key: job.key,
    url: job.callback.url,
    task: job.id,
    event,
    id,
    timeMs: nowMs,
    data,
  };
  return JSON.stringify(live);
}

/** Null for a form that this version does not know. */
export function readLiveCallback(text: string): LiveCallback | null {
  try {
    const live = JSON.parse(text) as Partial<LiveCallback>;
    const known = live.v === 1 && [live.key, live.url, live.task, live.id].every((field) => typeof field === "string");
    return known && (live.event === "started" || live.event === "progress") ? (live as LiveCallback) : null;
  } catch {
    return null;
  }
}
