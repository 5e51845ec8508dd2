// For tests of the HTTP layer alone: the real server on a free port over tasks that are written by hand. Used where the
// broker has no part (credentials, bodies, headers, problems, streams of given events); what a task does is tested on
// the real stack.
import type { Blobs } from "../blobs/blobs.ts";
import { systemClock } from "../clock.ts";
import { AppError } from "../errors.ts";
import type { Files } from "../files/files.ts";
import { createKeys, type Keys } from "../keys/keys.ts";
import type { Limits } from "../keys/limits.ts";
import { createTickets, type Tickets } from "../keys/tickets.ts";
import type { LlmCaller } from "../llm/llm.ts";
import { type Log, silentLog } from "../log.ts";
import { createMetrics } from "../metrics/metrics.ts";
import type { ModelDescription, Models } from "../models/models.ts";
import type { Find } from "../tasks/find.ts";
import type { Schedules } from "../tasks/schedules.ts";
import type { Accepted, Tasks, TaskView } from "../tasks/tasks.ts";
import type { PartReadiness } from "./health.ts";
import { createHttp, type Http, type HttpParts } from "./http.ts";

export const testKey = "test-key-of-alice";
export const otherKey = "test-key-of-bob";
export const knownTaskId = "01jd5w3v9m7k2q4x8n6t0r5y1z";

export interface Fixture extends AsyncDisposable {
  readonly http: Http;
  readonly url: string;
  /** Names of the Tasks methods that were called, in order. */
  readonly calls: string[];
  /** A request with the test key; a path that begins with / is this server's. */
  readonly send: (path: string, init?: RequestInit) => Promise<Response>;
}

export interface FixtureOptions {
  readonly tasks?: Partial<Tasks>;
  readonly find?: Partial<Find>;
  readonly blobs?: Partial<Blobs>;
  readonly files?: Files;
  readonly llm?: LlmCaller;
  readonly schedules?: Schedules;
  readonly usage?: HttpParts["usage"];
  /** Default: the keys of alice and bob. */
  readonly keys?: Keys;
  /** Default: none. */
  readonly limits?: Limits;
  readonly tickets?: Tickets;
  readonly readiness?: () => readonly PartReadiness[];
  readonly log?: Log;
  readonly config?: Partial<HttpParts["config"]>;
}

const echo: ModelDescription = {
  name: "echo",
  version: "1.0.0",
  summary: "Answers its input.",
  inputSchema: { type: "object" },
  outputSchema: { type: "object" },
  example: { text: "hello" },
  slots: 1,
  timeoutMs: 1_000,
  maxAttempts: 3,
  actors: 1,
  healthy: true,
  createdS: 1_795_255_200,
};

export const models: Models = {
  list: () => [echo],
  get: (name) => (name === echo.name ? echo : undefined),
  knows: (name) => name === echo.name,
  check: (_name, input) =>
    typeof input === "object" && input !== null && "bad" in input
      ? [{ path: "/bad", message: "is not a known field" }]
      : [],
};

/** A task that is finished, for any id but those that the test overrides. */
export const finished = (taskId: string): TaskView => ({
  taskId,
  status: "SUCCESS",
  terminal: true,
  json: `{"task_id":"${taskId}","status":"SUCCESS"}`,
});

const unexpected = (): never => {
  throw new AppError("task_not_found", "There is no such task.");
};

const webhooks: HttpParts["webhooks"] = {
  urlProblem: () => null,
  deliveries: async () => [],
  redeliver: unexpected,
  secrets: async () => [],
  rotate: async () => [],
  erase: async () => {},
};

const twoKeys = (): Keys =>
  createKeys([
    { id: "alice", secret: testKey },
    { id: "bob", secret: otherKey },
  ]);

export async function startFixture(options: FixtureOptions = {}): Promise<Fixture> {
  const calls: string[] = [];
  const accepted: Accepted = { taskId: knownTaskId, status: "PENDING", replayed: false };
  const given: Tasks = {
    accept: async () => accepted,
    read: async (taskId) => finished(taskId),
    wait: async (taskId) => finished(taskId),
    result: async () => null,
    events: async () => null,
    timeline: async () => unexpected(),
    cancel: async () => ({ status: "PENDING", cancelRequestedAt: "2026-11-21T10:00:00.000Z" }),
    ...options.tasks,
  };
  const tasks = new Proxy(given, {
    get(target, name: keyof Tasks) {
      calls.push(name);
      return target[name];
    },
  });
  const http = createHttp({
    config: {
      env: "dev",
      host: "127.0.0.1",
      port: 0,
      corsOrigins: [],
      trustedProxies: [],
      fetchAllowHosts: [],
      ...options.config,
    },
    tasks,
    retry: async () => accepted,
    erase: async (taskId) => finished(taskId),
    find: {
      tasks: async () => ({ items: [], next: null }),
      rows: async () => ({ items: [], next: null }),
      ...options.find,
    },
    webhooks,
    models,
    llm: options.llm ?? { call: unexpected },
    llmModels: { list: () => [], find: () => null },
    queues: { list: async () => [] },
    actors: () => [],
    keys: options.keys ?? twoKeys(),
    limits: options.limits ?? { take: () => null },
    tickets: options.tickets ?? createTickets(new Uint8Array(32), systemClock),
    blobs: { get: unexpected, read: unexpected, ...options.blobs } as Blobs,
    files: options.files ?? (unexpected as never),
    usage: options.usage ?? { report: async () => [], quotaOf: async () => null },
    schedules: options.schedules ?? (unexpected as never),
    readiness: options.readiness ?? (() => [{ part: "broker", ready: true }]),
    metrics: createMetrics(silentLog),
    log: options.log ?? silentLog,
  });
  const { url } = await http.listen();
  return {
    http,
    url,
    calls,
    send: (path, init = {}) => {
      const headers = new Headers(init.headers);
      if (!headers.has("x-api-key")) headers.set("x-api-key", testKey);
      return fetch(`${url}${path}`, { ...init, headers });
    },
    [Symbol.asyncDispose]: () => http.stop(0),
  };
}

/** The init of a JSON POST. */
export const jsonPost = (body: unknown, headers: Record<string, string> = {}): RequestInit => ({
  method: "POST",
  headers: { "content-type": "application/json", ...headers },
  body: typeof body === "string" ? body : JSON.stringify(body),
});
