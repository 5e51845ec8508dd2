import { expect, test } from "bun:test";
import { parseLoadOptions } from "./load-options.ts";
import { runPhase } from "./phases.ts";
import { TaskClient } from "./task-client.ts";

/** A task API in memory: a task has ended after so many reads. Each submit is refused `refusals` times first. */
function taskApi(options: { readsToEnd: number; refusals?: number; end?: string }) {
  const reads = new Map<string, number>();
  const priorities: string[] = [];
  let refused = 0;
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: async (request) => {
      const { pathname } = new URL(request.url);
      if (request.method === "POST") {
        if (refused++ < (options.refusals ?? 0)) return new Response("full", { status: 503 });
        const task = (await request.json()) as { client_request_id: string; priority: string };
        reads.set(task.client_request_id, 0);
        priorities.push(task.priority);
        return Response.json({ task_id: task.client_request_id, status: "PENDING" }, { status: 202 });
      }
      const id = pathname.split("/")[3] ?? "";
      if (pathname.endsWith("/events")) {
        const text = `id: 1.1\nevent: STARTED\ndata: {}\n\nid: 1.2\nevent: ${options.end ?? "SUCCESS"}\ndata: {}\n\n`;
        return new Response(text, { headers: { "content-type": "text/event-stream" } });
      }
      const count = (reads.get(id) ?? 0) + 1;
      reads.set(id, count);
      const status = count < options.readsToEnd ? "STARTED" : (options.end ?? "SUCCESS");
      return Response.json({ task_id: id, status });
    },
  });
  return { base: server.url.href, reads, priorities, [Symbol.asyncDispose]: () => server.stop(true) };
}

const optionsFor = (base: string, ...flags: string[]) =>
  parseLoadOptions(["--base", base, "--clients", "4", "--closed-n", "40", "--burst-n", "40", "--low-n", "5", ...flags]);

test("a closed loop submits every task once and polls it to its end", async () => {
  await using api = taskApi({ readsToEnd: 3 });
  const options = optionsFor(api.base);
  const client = new TaskClient(options);
  const figures = await runPhase("closed", client, options);
  expect(figures.n).toBe(40);
  expect([...api.reads.values()]).toEqual(new Array(40).fill(3));
  expect(client.counters).toEqual({ submitted: 40, polls: 120, rejected: 0, errors: 0 });
  expect(figures.e2e?.p50).toBeGreaterThan(figures.submit.p50);
});

test("a refusal for lack of room is repeated and counted", async () => {
  await using api = taskApi({ readsToEnd: 1, refusals: 3 });
  const options = optionsFor(api.base);
  const client = new TaskClient(options);
  expect((await runPhase("low", client, options)).n).toBe(5);
  expect(client.counters).toMatchObject({ submitted: 5, rejected: 3, errors: 0 });
});

test.each(["poll", "prefer", "sse"])("a task that fails is an error with its id (%s)", async (wait) => {
  await using api = taskApi({ readsToEnd: 1, end: "FAILURE" });
  const options = optionsFor(api.base, "--low-n", "1", "--wait", wait);
  const client = new TaskClient(options);
  await runPhase("low", client, options);
  expect(client.counters.errors).toBe(1);
  expect(client.errorTexts[0]).toContain("failure");
});

test("a burst observes every end", async () => {
  await using api = taskApi({ readsToEnd: 2 });
  const options = optionsFor(api.base);
  const client = new TaskClient(options);
  expect((await runPhase("burst", client, options)).n).toBe(40);
  expect([...api.reads.values()].every((count) => count === 2)).toBe(true);
});

test("the backlog is submitted before the high-priority tasks, and what is left of it is counted", async () => {
  await using api = taskApi({ readsToEnd: 1 });
  const options = optionsFor(api.base, "--backlog-n", "30", "--high-n", "3");
  const figures = await runPhase("priority", new TaskClient(options), options);
  expect(api.priorities).toEqual([...new Array(30).fill("low"), ...new Array(3).fill("high")]);
  expect(figures).toMatchObject({ n: 3, left_before: 0, left_after: 0 });
});

test("server-sent events are read up to the end state", async () => {
  await using api = taskApi({ readsToEnd: 1 });
  const options = optionsFor(api.base, "--wait", "sse");
  const client = new TaskClient(options);
  expect((await runPhase("low", client, options)).n).toBe(5);
  expect(client.counters).toEqual({ submitted: 5, polls: 0, rejected: 0, errors: 0 });
});

test("a flag that makes no sense is named", () => {
  expect(() => parseLoadOptions(["--wait", "hope"])).toThrow("--wait");
  expect(() => parseLoadOptions(["--low-n", "-1"])).toThrow("low-n");
  expect(() => parseLoadOptions(["--pids", "api"])).toThrow("--pids");
});
