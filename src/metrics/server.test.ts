// The port that an actor's metrics have: found, shared out, and no reason to stop when it is taken.
import { expect, test } from "bun:test";
import { type Log, silentLog } from "../log.ts";
import { createMetrics } from "./metrics.ts";
import { serveMetrics } from "./server.ts";

test("a port that is taken is said once, and the process goes on without", async () => {
  const said: unknown[] = [];
  const log: Log = { ...silentLog, error: (fields) => said.push(fields) };
  const first = serveMetrics(createMetrics(silentLog), "127.0.0.1", 0, log);
  const port = Number(new URL(first.url ?? "").port);
  const second = serveMetrics(createMetrics(silentLog), "127.0.0.1", port, log);
  expect([second.url, said]).toEqual([null, [expect.objectContaining({ port })]]);
  await second.stop();
  expect((await fetch(first.url ?? "")).status).toBe(200);
  await first.stop();
  expect(await fetch(first.url ?? "").catch(() => "gone")).toBe("gone");
});

test("HEAD has no body, other methods and paths are refused, and nothing of a request comes back", async () => {
  const metrics = createMetrics(silentLog);
  metrics.counter({ name: "a_total", help: "A." }).of().add();
  const server = serveMetrics(metrics, "127.0.0.1", 0, silentLog);
  const url = server.url ?? "";
  const head = await fetch(url, { method: "HEAD" });
  expect([head.status, await head.text()]).toEqual([200, ""]);
  for (const [target, method, status] of [
    [url, "POST", 405],
    [`${url}/x`, "GET", 404],
    [url.replace("/metrics", "/%00"), "GET", 404],
  ] as const) {
    const response = await fetch(target, { method });
    expect([target, response.status, await response.text()]).toEqual([target, status, ""]);
  }
  await server.stop();
});
