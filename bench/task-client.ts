// What a client of the task API does: submit a task and ask whether it has ended. Used by the phases of the load
// generator; counts polls, refusals and errors, and never throws for an answer of the server.
import { appendFileSync } from "node:fs";
import { type Answer, Connection } from "./connection.ts";
import type { LoadOptions } from "./load-options.ts";
import { round } from "./statistics.ts";

export type Priority = "high" | "normal" | "low";

export interface Counters {
  readonly submitted: number;
  readonly polls: number;
  /** 429 and 503 answers to a submit, which is then repeated. */
  readonly rejected: number;
  readonly errors: number;
}

export interface Submitted {
  readonly id: string;
  readonly latencyMs: number;
}

// Ours and the peers' names of the end states, in lower case.
const SUCCEEDED = new Set(["success", "succeeded"]);
const FAILED = new Set(["failure", "failed", "cancelled"]);

const SUBMIT_TRIES_MAX = 200;
const ERROR_TEXTS_MAX = 5;
const RETRY_AFTER_MS_MAX = 1_000;

export class TaskClient {
  readonly #options: LoadOptions;
  readonly #headers: string;
  readonly #errorTexts: string[] = [];
  readonly #ids: string[] = [];
  #counters = { submitted: 0, polls: 0, rejected: 0, errors: 0 };

  constructor(options: LoadOptions) {
    this.#options = options;
    this.#headers = options.key === "" ? "" : `x-api-key: ${options.key}\r\n`;
  }

  get counters(): Counters {
    return { ...this.#counters };
  }

  /** The first few errors, for the report. */
  get errorTexts(): readonly string[] {
    return this.#errorTexts;
  }

  connections(count: number): Connection[] {
    return Array.from({ length: count }, () => new Connection(this.#options.base, this.#headers));
  }

  fail(what: string): void {
    this.#counters.errors++;
    if (this.#errorTexts.length < ERROR_TEXTS_MAX) this.#errorTexts.push(what);
  }

  /** Submits a task. A refusal for lack of room is repeated and its time counts; null after any other refusal. */
  async submit(connection: Connection, input: unknown, priority: Priority): Promise<Submitted | null> {
    const task = { model: this.#options.model, input, priority, client_request_id: crypto.randomUUID() };
    const body = JSON.stringify(task);
    const startMs = performance.now();
    for (let tries = 0; tries < SUBMIT_TRIES_MAX; tries++) {
      const answer = await connection.request({ method: "POST", path: "/v1/tasks", body });
      if (answer.status === 429 || answer.status === 503) {
        this.#counters.rejected++;
        await Bun.sleep(Math.min(RETRY_AFTER_MS_MAX, (answer.retryAfterS || 0.02) * 1000));
        continue;
      }
      const latencyMs = performance.now() - startMs;
      const id = answer.status === 202 ? fieldOf(answer, "task_id") : null;
      if (id === null) {
        this.fail(`POST ${describe(answer)}`);
        return null;
      }
      this.#counters.submitted++;
      if (this.#options.idsFile !== null) this.#ids.push(id);
      return { id, latencyMs };
    }
    this.fail(`POST refused ${SUBMIT_TRIES_MAX} times`);
    return null;
  }

  /** One GET. True when the task has ended, or when no better answer can be hoped for. */
  async hasEnded(connection: Connection, id: string, headers = ""): Promise<boolean> {
    this.#counters.polls++;
    const answer = await connection.request({ method: "GET", path: `/v1/tasks/${id}`, headers });
    if (answer.status === 429 || answer.status === 503) return false;
    const status = answer.status < 300 ? fieldOf(answer, "status") : null;
    if (status === null) {
      this.fail(`GET ${describe(answer)}`);
      return true;
    }
    return this.isEnd(id, status);
  }

  /** Whether `status` is final; counts a task that ended otherwise than in success as an error. */
  isEnd(id: string, status: string): boolean {
    const name = status.toLowerCase();
    if (FAILED.has(name)) this.fail(`task ${id} ${name}`);
    return FAILED.has(name) || SUCCEEDED.has(name);
  }

  /** Writes the ids of the tasks submitted since the last call. */
  flushIds(): void {
    if (this.#options.idsFile === null || this.#ids.length === 0) return;
    appendFileSync(this.#options.idsFile, `${this.#ids.splice(0).join("\n")}\n`);
  }
}

/** `after` less `before`, without the running total of submitted tasks. */
export const countersBetween = (before: Counters, after: Counters): Omit<Counters, "submitted"> => ({
  polls: round(after.polls - before.polls, 0),
  rejected: round(after.rejected - before.rejected, 0),
  errors: round(after.errors - before.errors, 0),
});

const describe = (answer: Answer): string => `${answer.status} ${answer.body.slice(0, 200)}`;

/** A string field of a JSON answer, or null. */
function fieldOf(answer: Answer, field: string): string | null {
  try {
    const body: unknown = JSON.parse(answer.body);
    if (typeof body !== "object" || body === null) return null;
    const value: unknown = Reflect.get(body, field);
    return typeof value === "string" ? value : null;
  } catch {
    return null;
  }
}
