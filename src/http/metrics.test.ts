// `GET /metrics` of the HTTP layer: who may ask, what is counted, and that no client makes a series.
import { expect, test } from "bun:test";
import { until } from "../../tests/stack.ts";
import { jsonPost, knownTaskId, startFixture } from "./server-fixture.ts";

/** The samples of a family, by what stands in the braces. */
const samples = (text: string, name: string): Record<string, number> =>
  Object.fromEntries(
    [...text.matchAll(new RegExp(`^${name}\\{(.*)\\} (\\S+)$`, "gm"))].map(([, labels, value]) => [
      labels,
      Number(value),
    ]),
  );

test("in development on loopback no key is asked for; elsewhere one is", async () => {
  const statusOf = async (config: { env?: "dev" | "prod"; host?: string }): Promise<number[]> => {
    await using server = await startFixture({ config });
    const port = new URL(server.url).port;
    const without = await fetch(`http://127.0.0.1:${port}/metrics`);
    return [without.status, (await server.send("/metrics")).status];
  };
  expect(await statusOf({})).toEqual([200, 200]);
  expect(await statusOf({ env: "prod" })).toEqual([401, 200]);
  expect(await statusOf({ host: "0.0.0.0" })).toEqual([401, 200]);
});

test("answers are counted by route, method and status class, with their latency", async () => {
  await using server = await startFixture();
  for (let i = 0; i < 3; i++) await server.send(`/v1/tasks/${knownTaskId}`);
  await server.send("/v1/tasks/nothing");
  await server.send("/v1/tasks", jsonPost({ model: "echo", input: {} }));
  await server.send(`/v1/tasks/${knownTaskId}`, { method: "HEAD" });
  const response = await fetch(`${server.url}/metrics`);
  expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  const text = await response.text();
  expect(samples(text, "millrace_http_requests_total")).toEqual({
    'method="GET",route="/v1/tasks/{id}",status="2xx"': 4,
    'method="GET",route="/v1/tasks/{id}",status="4xx"': 1,
    'method="POST",route="/v1/tasks",status="2xx"': 1,
  });
  const counts = samples(text, "millrace_http_request_duration_seconds_count");
  expect(counts['method="GET",route="/v1/tasks/{id}",status="2xx"']).toBe(4);
});

test("a request that waits on purpose is counted, its wait is not, and it shows while it waits", async () => {
  const entered = Promise.withResolvers<void>();
  const end = Promise.withResolvers<void>();
  await using server = await startFixture({
    tasks: {
      async wait(taskId) {
        entered.resolve();
        await end.promise;
        return { taskId, status: "SUCCESS", terminal: true, json: "{}" };
      },
    },
  });
  const waiting = server.send(`/v1/tasks/${knownTaskId}?wait=60`);
  await entered.promise;
  const during = await (await fetch(`${server.url}/metrics`)).text();
  expect(samples(during, "millrace_http_held_requests")).toEqual({
    'kind="wait"': 1,
    'kind="stream"': 0,
    'kind="call"': 0,
  });
  end.resolve();
  await waiting;
  const after = await (await fetch(`${server.url}/metrics`)).text();
  const label = 'method="GET",route="/v1/tasks/{id}",status="2xx"';
  expect(samples(after, "millrace_http_requests_total")[label]).toBe(1);
  expect(samples(after, "millrace_http_request_duration_seconds_count")[label]).toBe(0);
  expect(samples(after, "millrace_http_held_requests")['kind="wait"']).toBe(0);
});

test("an event stream shows while it is open, and no longer", async () => {
  async function* events(signal: AbortSignal) {
    yield { id: "1.1", event: "STARTED", data: "{}" };
    await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  }
  await using server = await startFixture({ tasks: { events: async (_id, _owner, _last, signal) => events(signal) } });
  const streams = async (): Promise<number | undefined> =>
    samples(await (await fetch(`${server.url}/metrics`)).text(), "millrace_http_held_requests")['kind="stream"'];
  const response = await server.send(`/v1/tasks/${knownTaskId}/events`);
  const reader = response.body?.getReader();
  expect(new TextDecoder().decode((await reader?.read())?.value)).toContain("retry");
  expect(await streams()).toBe(1);
  await reader?.cancel();
  await until("the stream is over", 5_000, async () => ((await streams()) === 0 ? true : null));
});

test("whatever clients ask for, the series are few", async () => {
  await using server = await startFixture();
  for (let i = 0; i < 50; i++) {
    await server.send(`/v1/nothing-${i}`);
    await server.send(`/${i}`, { method: "PUT" });
    await server.send(`/v1/tasks/${"x".repeat(i + 1)}`);
  }
  await server.send("/", { method: "PROPFIND" });
  const text = await (await fetch(`${server.url}/metrics`)).text();
  expect(Object.keys(samples(text, "millrace_http_requests_total")).sort()).toEqual([
    'method="GET",route="/v1/tasks/{id}",status="4xx"',
    'method="GET",route="none",status="4xx"',
    'method="PUT",route="none",status="4xx"',
    'method="other",route="none",status="4xx"',
  ]);
});
