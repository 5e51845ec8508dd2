// The phases of a load run: one task at a time, a closed loop of C clients, a burst, and high-priority tasks behind a
// backlog of low ones. Each phase opens its own connections and closes them before it returns its figures.
import type { Connection } from "./connection.ts";
import type { LoadOptions, PhaseName } from "./load-options.ts";
import { countLeading, type Quantiles, quantiles, round } from "./statistics.ts";
import type { Priority, TaskClient } from "./task-client.ts";
import { Waiter } from "./waiting.ts";

/** What a phase saw. Latencies in milliseconds, as the client measured them. */
export interface PhaseFigures {
  readonly n: number;
  readonly wall_s: number;
  readonly submit: Quantiles;
  readonly e2e?: Quantiles;
  readonly tasks_per_s?: number;
  readonly submits_per_s?: number;
  /** Low-priority tasks not ended before and after the high ones; a backlog that ran out proves nothing. */
  readonly left_before?: number;
  readonly left_after?: number;
  /** Wall time of all high-priority tasks, one after another. */
  readonly high_s?: number;
}

export function runPhase(phase: PhaseName, client: TaskClient, options: LoadOptions): Promise<PhaseFigures> {
  switch (phase) {
    case "low":
      return closedLoop(client, options, { tasks: options.lowTasks, clients: 1, step: 0.1 });
    case "tight":
      return closedLoop(client, options, { tasks: options.tightTasks, clients: 1, step: 0 });
    case "closed":
      return closedLoop(client, options, { tasks: options.closedTasks, clients: options.clients, step: 0.2 });
    case "burst":
      return burst(client, options);
    case "priority":
      return highBehindLow(client, options);
  }
}

/** Tasks before the first phase: they fill caches, compile hot code and open the servers' pools. */
export async function warmUp(client: TaskClient, options: LoadOptions): Promise<void> {
  await closedLoop(client, options, { tasks: options.warmTasks, clients: Math.min(8, options.clients), step: 0.2 });
}

interface Loop {
  readonly tasks: number;
  readonly clients: number;
  readonly step: number;
}

/** Each client submits a task and waits for its end before the next. */
async function closedLoop(client: TaskClient, options: LoadOptions, loop: Loop): Promise<PhaseFigures> {
  const waiter = new Waiter(client, { wait: options.wait, taskTimeoutMs: options.taskTimeoutMs, step: loop.step });
  const connections = client.connections(loop.clients);
  const submitMs: number[] = [];
  const endToEndMs: number[] = [];
  let left = loop.tasks;
  const startMs = performance.now();
  await Promise.all(
    connections.map(async (connection) => {
      while (left-- > 0) await one(client, waiter, connection, options.input, "normal", submitMs, endToEndMs);
    }),
  );
  const wallS = secondsSince(startMs);
  close(connections);
  const e2e = quantiles(endToEndMs);
  const tasks_per_s = Math.round(endToEndMs.length / wallS);
  return { n: endToEndMs.length, wall_s: round(wallS, 3), tasks_per_s, submit: quantiles(submitMs), e2e };
}

async function one(
  client: TaskClient,
  waiter: Waiter,
  connection: Connection,
  input: unknown,
  priority: Priority,
  submitMs: number[],
  endToEndMs: number[],
): Promise<void> {
  const startMs = performance.now();
  const task = await client.submit(connection, input, priority);
  if (task === null) return;
  submitMs.push(task.latencyMs);
  endToEndMs.push(await waiter.wait(connection, task.id, startMs));
}

/** Everything submitted at once, then observed. The task rate is from the first submit to the last observed end. */
async function burst(client: TaskClient, options: LoadOptions): Promise<PhaseFigures> {
  const connections = client.connections(options.clients);
  const startMs = performance.now();
  const { ids, submitMs } = await submitAll(client, connections, options.burstTasks, options.input, "normal");
  const submitS = secondsSince(startMs);
  if (options.wait !== "none") await observeAll(client, connections, ids, options.taskTimeoutMs);
  const wallS = secondsSince(startMs);
  close(connections);
  return {
    n: ids.length,
    wall_s: round(wallS, 3),
    submits_per_s: Math.round(ids.length / submitS),
    tasks_per_s: Math.round(ids.length / wallS),
    submit: quantiles(submitMs),
  };
}

/** High-priority tasks, one at a time, while a backlog of low ones waits for the same slots. */
async function highBehindLow(client: TaskClient, options: LoadOptions): Promise<PhaseFigures> {
  const connections = client.connections(options.clients);
  const [single] = client.connections(1);
  if (single === undefined) throw new Error("no connection");
  const waiter = new Waiter(client, { wait: options.wait, taskTimeoutMs: options.taskTimeoutMs, step: 0.1 });
  const submitMs: number[] = [];
  const endToEndMs: number[] = [];
  const startMs = performance.now();
  const backlog = await submitAll(client, connections, options.backlogTasks, options.backlogInput, "low");
  const left = async (): Promise<number> => {
    const ended = await countLeading(backlog.ids.length, (i) => client.hasEnded(single, backlog.ids[i] ?? ""));
    return backlog.ids.length - ended;
  };
  const leftBefore = await left();
  const highStartMs = performance.now();
  for (let i = 0; i < options.highTasks; i++) {
    await one(client, waiter, single, options.input, "high", submitMs, endToEndMs);
  }
  const highS = secondsSince(highStartMs);
  const leftAfter = await left();
  await observeAll(client, connections, backlog.ids, options.taskTimeoutMs);
  const wallS = secondsSince(startMs);
  close([...connections, single]);
  return {
    n: endToEndMs.length,
    wall_s: round(wallS, 3),
    left_before: leftBefore,
    left_after: leftAfter,
    high_s: round(highS, 3),
    submit: quantiles(submitMs),
    e2e: quantiles(endToEndMs),
  };
}

/** `count` tasks from all connections at once. Ids in about the order of submission. */
async function submitAll(
  client: TaskClient,
  connections: readonly Connection[],
  count: number,
  input: unknown,
  priority: Priority,
): Promise<{ ids: string[]; submitMs: number[] }> {
  const ids: (string | null)[] = new Array(count).fill(null);
  const submitMs: number[] = [];
  let next = 0;
  await Promise.all(
    connections.map(async (connection) => {
      for (let i = next++; i < count; i = next++) {
        const task = await client.submit(connection, input, priority);
        if (task === null) continue;
        ids[i] = task.id;
        submitMs.push(task.latencyMs);
      }
    }),
  );
  return { ids: ids.filter((id) => id !== null), submitMs };
}

/** Observes every task's end, oldest first: clients wait at the head of the line, so there is about one GET a task. */
async function observeAll(
  client: TaskClient,
  connections: readonly Connection[],
  ids: readonly string[],
  taskTimeoutMs: number,
): Promise<void> {
  let next = 0;
  await Promise.all(
    connections.map(async (connection) => {
      for (let id = ids[next++]; id !== undefined; id = ids[next++]) {
        const deadlineMs = performance.now() + taskTimeoutMs;
        for (let waitMs = 5; !(await client.hasEnded(connection, id)); waitMs = Math.min(100, waitMs * 1.5)) {
          if (performance.now() > deadlineMs) {
            client.fail(`task ${id} did not end in ${taskTimeoutMs} ms`);
            return;
          }
          await Bun.sleep(waitMs);
        }
      }
    }),
  );
}

function close(connections: readonly Connection[]): void {
  for (const connection of connections) connection.close();
}

const secondsSince = (startMs: number): number => (performance.now() - startMs) / 1000;
