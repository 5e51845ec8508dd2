// Tells what happens on the way (started, progress) as it happens: one attempt, no row, nothing kept. One gateway of
// all hears each message. A receiver that is slow gets the newest progress of a task when it is ready for more, and
// where too much is under way it gets nothing: the task's events and its completion are not lost by that.
import type { Bus } from "../bus/connection.ts";
import { subjects } from "../bus/subjects.ts";
import { type Clock, pause } from "../clock.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { ENDED, type LiveCallback, readLiveCallback } from "../tasks/callback.ts";
import { webhookBody } from "./body.ts";
import { type DeliverOptions, send } from "./deliver.ts";

export interface LiveOptions extends Pick<DeliverOptions, "sql" | "secrets" | "rules" | "connect"> {
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  /** Word that a task has ended: it is in the log. May be lost. */
  readonly onEnded: (taskId: string) => void;
}

export interface Live {
  stop(): Promise<void>;
}

/** Tasks that are told of, each with one message that waits. */
const TASKS_MAX = 4_096;
/** Messages under way at once, in all and to one host. */
const IN_ALL_MAX = 64;
const PER_HOST_MAX = 8;
/** Progress of one task no closer together than this. */
const PROGRESS_EVERY_MS = 500;

/** One task of which something is being sent: what came meanwhile, the newest only. */
interface Telling {
  next: LiveCallback | null;
}

export function startLive(options: LiveOptions): Live {
  const { bus, log } = options;
  const tellings = new Map<string, Telling>();
  const hosts = new Map<string, number>();
  let inAll = 0;
  const underWay = new Set<Promise<void>>();
  const stopping = new AbortController();

  /** Sends unless too much is under way. */
  const sendNow = async (live: LiveCallback): Promise<void> => {
    const host = URL.parse(live.url)?.host ?? "";
    const onHost = hosts.get(host) ?? 0;
    if (inAll >= IN_ALL_MAX || onHost >= PER_HOST_MAX) return;
    inAll++;
    hosts.set(host, onHost + 1);
    try {
      const outcome = await send(options, sendingOf(live), options.clock.now(), stopping.signal);
      const { status, error: code } = outcome ?? {};
      log.debug({ task_id: live.task, event: live.event, status, code }, "callback sent");
    } finally {
      inAll--;
      const left = (hosts.get(host) ?? 1) - 1;
      if (left > 0) hosts.set(host, left);
      else hosts.delete(host);
    }
  };
  const tell = async (first: LiveCallback, telling: Telling): Promise<void> => {
    for (let live: LiveCallback | null = first; live && !stopping.signal.aborted; ) {
      const waits = live.event === "progress" ? pause(PROGRESS_EVERY_MS, stopping.signal) : null;
      await sendNow(live);
      await waits;
      live = telling.next;
      telling.next = null;
    }
  };
  const heard = (live: LiveCallback): void => {
    const known = tellings.get(live.task);
    if (known) {
      // A new attempt is told before the progress of the old one.
      if (known.next?.event !== "started") known.next = live;
      return;
    }
    if (tellings.size >= TASKS_MAX) return;
    const telling: Telling = { next: null };
    tellings.set(live.task, telling);
    const work = tell(live, telling)
      .catch((error) => log.debug({ task_id: live.task, error: messageOf(error) }, "callback not sent"))
      .finally(() => {
        tellings.delete(live.task);
        underWay.delete(work);
      });
    underWay.add(work);
  };
  const subscription = bus.subscribe(
    subjects.anyCallback,
    (message) => {
      const text = message.text();
      if (text === ENDED) return options.onEnded(message.subject.slice(message.subject.lastIndexOf(".") + 1));
      const live = readLiveCallback(text);
      if (live) heard(live);
    },
    "webhooks",
  );
  return {
    async stop() {
      subscription.unsubscribe();
      stopping.abort();
      await Promise.all(underWay);
    },
  };
}

function sendingOf({ task, event, id, timeMs, key, url, data }: LiveCallback) {
  const body = webhookBody(`task.${event}`, timeMs, JSON.stringify(data));
  return { id: `${task}_${id}`, keyId: key, url, body };
}
