// How the load generator observes that a task has ended: adaptive polls (the same for every system measured, so that
// ratios are fair), a GET that the server holds, or server-sent events. One Waiter serves all clients of a phase.
import type { Connection } from "./connection.ts";
import type { WaitName } from "./load-options.ts";
import type { TaskClient } from "./task-client.ts";

export interface WaiterOptions {
  readonly wait: WaitName;
  readonly taskTimeoutMs: number;
  /** The time between two polls, as a share of the usual end-to-end time. 0 polls back to back. */
  readonly step: number;
}

/** The share of the usual end-to-end time after which the first poll comes. */
const FIRST_POLL_SHARE = 0.7;
const POLL_MS_MIN = 1;
/** A held GET: long enough that the end always comes first here. */
const PREFER_WAIT = "prefer: wait=30\r\n";

export class Waiter {
  readonly #client: TaskClient;
  readonly #options: WaiterOptions;
  /** Moving average of the end-to-end time, ms. Starts at a guess that a few tasks correct. */
  #usualMs = 2;

  constructor(client: TaskClient, options: WaiterOptions) {
    this.#client = client;
    this.#options = options;
  }

  /** Resolves with the milliseconds from `startMs` (of performance.now) until the end was seen. */
  async wait(connection: Connection, id: string, startMs: number): Promise<number> {
    const deadlineMs = startMs + this.#options.taskTimeoutMs;
    if (this.#options.wait === "poll") await this.#poll(connection, id, startMs, deadlineMs);
    if (this.#options.wait === "sse") await this.#stream(connection, id);
    if (this.#options.wait === "prefer") {
      while (!(await this.#client.hasEnded(connection, id, PREFER_WAIT))) if (this.#isLate(id, deadlineMs)) break;
    }
    const elapsedMs = performance.now() - startMs;
    this.#usualMs += 0.1 * (elapsedMs - this.#usualMs);
    return elapsedMs;
  }

  async #poll(connection: Connection, id: string, startMs: number, deadlineMs: number): Promise<void> {
    const backToBack = this.#options.step === 0;
    if (!backToBack) await pause(Math.floor(startMs + this.#usualMs * FIRST_POLL_SHARE - performance.now()));
    for (let polls = 0; !(await this.#client.hasEnded(connection, id)); polls++) {
      if (this.#isLate(id, deadlineMs)) return;
      const stretch = Math.min(4, 1 + polls / 8); // a task that is late is asked for less often
      if (!backToBack) await pause(Math.max(POLL_MS_MIN, Math.round(this.#usualMs * this.#options.step * stretch)));
    }
  }

  async #stream(connection: Connection, id: string): Promise<void> {
    let text = "";
    let ended = false;
    const { promise: seen, resolve } = Promise.withResolvers<void>();
    const answered = connection.request({
      method: "GET",
      path: `/v1/tasks/${id}/events`,
      headers: "accept: text/event-stream\r\n",
      onText: (more) => {
        text += more;
        for (const event of text.matchAll(/^event: *(\S+)\r?\n/gm)) {
          if (ended || !this.#client.isEnd(id, event[1] ?? "")) continue;
          ended = true;
          resolve();
        }
      },
    });
    const over = answered.then((answer) => {
      if (!ended) this.#client.fail(`the stream of ${id} ended with ${answer.status} and without an end state`);
    });
    await Promise.race([seen, over]);
    // A stream that ended with this chunk leaves the connection usable; one that stays open is dropped.
    await pause(0);
    if (connection.busy) connection.close();
  }

  #isLate(id: string, deadlineMs: number): boolean {
    if (performance.now() < deadlineMs) return false;
    this.#client.fail(`task ${id} took longer than ${this.#options.taskTimeoutMs} ms`);
    return true;
  }
}

const pause = (ms: number): Promise<void> => (ms > 0 ? Bun.sleep(ms) : Promise.resolve());
