// The service `millrace.submit` over a real broker, in front of tasks written by hand: it is found by the micro
// protocol, answers what HTTP answers, and neither takes too much at once nor speaks where a sender points it.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { headers as natsHeaders } from "@nats-io/nats-core";
import { type Broker, signal, startBroker } from "../../tests/broker.ts";
import type { BusMessage } from "../bus/connection.ts";
import { subjects } from "../bus/subjects.ts";
import { systemClock } from "../clock.ts";
import { silentLog } from "../log.ts";
import { type Fixture, type FixtureOptions, jsonPost, knownTaskId, startFixture, testKey } from "./server-fixture.ts";
import { startSubmitService } from "./submit-service.ts";

let broker: Broker;
beforeAll(async () => {
  broker = await startBroker({ partitions: 0 });
});
afterAll(() => broker.stop());

type Fetch = Fixture["http"]["fetch"];

/** The service before a gateway that has the tasks of `options`, or before `fetch`. */
async function startService(options: FixtureOptions = {}, fetch?: Fetch) {
  const server = await startFixture(options);
  const service = startSubmitService({
    bus: broker.bus,
    clock: systemClock,
    fetch: fetch ?? server.http.fetch,
    log: silentLog,
  });
  await broker.bus.flush(5_000);
  return {
    server,
    service,
    async [Symbol.asyncDispose]() {
      await service.stop(1_000);
      await server[Symbol.asyncDispose]();
    },
  };
}

const submit = (body: unknown, headers: Record<string, string> = { "x-api-key": testKey }): Promise<BusMessage> =>
  broker.bus.request(subjects.submit, typeof body === "string" ? body : JSON.stringify(body), {
    timeoutMs: 5_000,
    headers,
  });
const ask = async (...subject: Parameters<typeof subjects.discovery>): Promise<Record<string, unknown>> =>
  JSON.parse((await broker.bus.request(subjects.discovery(...subject), "", { timeoutMs: 5_000 })).text());
const errorOf = (answer: BusMessage): [string, string] => [
  answer.header("Nats-Service-Error-Code"),
  answer.header("Nats-Service-Error"),
];

const valid = { model: "echo", input: {} };

test("it is found by name and by id, describes itself, and counts", async () => {
  await using _service = await startService();
  const ping = await ask("PING");
  expect(ping).toMatchObject({ type: "io.nats.micro.v1.ping_response", name: "millrace" });
  expect(await ask("PING", "millrace")).toEqual(ping);
  expect(await ask("INFO", "millrace", String(ping.id))).toMatchObject({
    type: "io.nats.micro.v1.info_response",
    id: ping.id,
    endpoints: [{ name: "submit", subject: "millrace.submit", queue_group: "q" }],
  });
  await submit(valid);
  await submit({});
  const stats = await ask("STATS", "millrace");
  expect(stats).toMatchObject({
    type: "io.nats.micro.v1.stats_response",
    started: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
    endpoints: [{ num_requests: 2, num_errors: 1, last_error: "422:The request is not valid" }],
  });
  const [{ processing_time, average_processing_time }] = stats.endpoints as [Record<string, number>];
  expect(processing_time).toBeGreaterThan(0);
  expect(average_processing_time).toBe(Math.round((processing_time ?? 0) / 2));
});

test("what was accepted before says so, and a trace goes on", async () => {
  const seen: unknown[] = [];
  await using _service = await startService({
    tasks: {
      async accept(request, owner, trace) {
        seen.push([request.client_request_id, owner.keyId, trace]);
        return { taskId: knownTaskId, status: "STARTED", replayed: true };
      },
    },
  });
  const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  const answer = await submit(valid, { "X-Api-Key": testKey, traceparent, "Idempotency-Key": "order-1" });
  expect(errorOf(answer)).toEqual(["", ""]);
  expect(JSON.parse(answer.text())).toMatchObject({ task_id: knownTaskId, status: "STARTED" });
  expect(answer.header("idempotency-replayed")).toBe("true");
  expect(seen).toEqual([["order-1", "alice", traceparent]]);
});

test.each([
  ["no key", valid, {}],
  ["a wrong key", valid, { "x-api-key": "nobody's" }],
  ["two keys", valid, { "x-api-key": testKey, authorization: "Bearer another" }],
  ["no JSON", "{", undefined],
  ["a list", [], undefined],
  ["an unknown field", { ...valid, foo: 1 }, undefined],
  ["an unknown model", { ...valid, model: "no-such" }, undefined],
  ["what the model refuses", { ...valid, input: { bad: 1 } }, undefined],
  ["two names", { ...valid, client_request_id: "a" }, { "x-api-key": testKey, "idempotency-key": "b" }],
])("%s: the same refusal as over HTTP", async (_name, body, headers) => {
  await using running = await startService();
  const init = jsonPost(body, { "x-request-id": "same", ...headers });
  const overHttp = await fetch(`${running.server.url}/v1/tasks`, {
    ...init,
    headers: { "x-api-key": testKey, ...(headers && { "x-api-key": "" }), ...init.headers },
  });
  const overNats = await submit(body, { "x-request-id": "same", ...(headers ?? { "x-api-key": testKey }) });
  const problem = JSON.parse(overNats.text());
  expect(problem).toEqual(await overHttp.json());
  expect(errorOf(overNats)).toEqual([String(overHttp.status), problem.title]);
  expect(overNats.header("content-type")).toBe("application/problem+json");
  expect(running.server.calls).toEqual([]);
});

test("the limit of a key counts here too, and says when to come back", async () => {
  const none = { admitted: false, limit: 60, remaining: 0, resetS: 7 };
  await using running = await startService({ limits: { take: () => none } });
  const answer = await submit(valid);
  expect(errorOf(answer)[0]).toBe("429");
  expect([answer.header("retry-after"), answer.header("ratelimit")]).toEqual(["7", '"minute";r=0;t=7']);
  expect(running.server.calls).toEqual([]);
});

test("a header that HTTP cannot carry is refused, not dropped, and so are bytes that are no text", async () => {
  await using running = await startService();
  const head = natsHeaders();
  head.set("x-api-key", testKey);
  const send = async (body: string | Uint8Array): Promise<string | undefined> => {
    const answer = await broker.bus.connection.request(subjects.submit, body, { timeout: 5_000, headers: head });
    return answer.headers?.get("Nats-Service-Error-Code");
  };
  expect(await send(new Uint8Array([0x22, 0xff, 0x22]))).toBe("400");
  head.append("Idempotency-Key", "世");
  expect(await send(JSON.stringify(valid))).toBe("422");
  expect(running.server.calls).toEqual([]);
});

test("a request whose reply subject is no inbox is neither taken nor answered", async () => {
  await using running = await startService();
  const heard: string[] = [];
  const victims = ["millrace.results.0.echo.success.x", "$JS.API.INFO", "other.service", "_inbox"];
  const listeners = victims.map((subject) => broker.bus.subscribe(subject, () => heard.push(subject)));
  for (const subject of victims) {
    broker.bus.publish(subjects.submit, "{}", subject);
    broker.bus.publish(subjects.discovery("PING"), "", subject);
  }
  broker.bus.publish(subjects.submit, "{}");
  const stats = await ask("STATS");
  expect(stats.endpoints).toMatchObject([{ num_requests: 5, num_errors: 5 }]);
  await broker.bus.flush(5_000);
  expect([heard, running.server.calls]).toEqual([[], []]);
  for (const listener of listeners) listener.unsubscribe();
});

test("more than it may hold at once is told to come back", async () => {
  const { promise: opened, resolve: open } = Promise.withResolvers<void>();
  const parked = async (request: Request): Promise<Response> => {
    await request.text();
    await opened;
    return new Response("{}");
  };
  await using _service = await startService({}, parked);
  const size = 1_000_000; // 33 of these fit into 32 MiB
  const answers = Array.from({ length: 40 }, () => submit("x".repeat(size)));
  const first = await Promise.race(answers);
  expect([errorOf(first)[0], first.header("retry-after")]).toEqual(["503", "1"]);
  expect(JSON.parse(first.text())).toMatchObject({ code: "not_ready", retryable: true });
  open();
  const codes = (await Promise.all(answers)).map((answer) => errorOf(answer)[0]);
  expect(codes.filter((code) => code === "")).toHaveLength(33);

  expect(errorOf(await submit("x".repeat(size)))[0]).toBe("");
});

test("it stops when those under way are answered, and leaves no subscription", async () => {
  const before = await broker.subscriptions();
  const asked = Promise.withResolvers<void>();
  const { promise: opened, resolve: open } = Promise.withResolvers<void>();
  await using running = await startService({}, async () => {
    asked.resolve();
    await opened;
    return new Response("{}");
  });
  const answer = submit(valid);
  await asked.promise;
  let stopped = false;
  const stopping = running.service.stop(5_000).then(() => {
    stopped = true;
  });
  for (let i = 0; i < 3; i++) await broker.bus.flush(5_000);
  expect(stopped).toBe(false);
  open();
  expect((await answer).text()).toBe("{}");
  await stopping;
  expect(await broker.subscriptions()).toBe(before);
});

test("of several gateways one takes each request, and all of them are found", async () => {
  const taken = [0, 0];
  const counting = (which: number): FixtureOptions => ({
    tasks: {
      async accept() {
        taken[which] = (taken[which] ?? 0) + 1;
        return { taskId: knownTaskId, status: "PENDING", replayed: false };
      },
    },
  });
  await using _first = await startService(counting(0));
  await using _second = await startService(counting(1));
  const requests = 100;
  await Promise.all(Array.from({ length: requests }, () => submit(valid)));
  expect((taken[0] ?? 0) + (taken[1] ?? 0)).toBe(requests);
  expect(Math.min(...taken)).toBeGreaterThan(0); // chance of one in 2^99

  const ids = new Set<string>();
  const both = signal();
  const inbox = broker.bus.inbox();
  const listener = broker.bus.subscribe(inbox, (message) => {
    ids.add(JSON.parse(message.text()).id);
    both.notify();
  });
  broker.bus.publish(subjects.discovery("PING", "millrace"), "", inbox);
  await both.until(() => ids.size === 2);
  listener.unsubscribe();
});

test("it serves on when the broker was killed and is back", async () => {
  await using _service = await startService();
  await broker.kill();
  await broker.restart();
  expect(errorOf(await submit(valid))).toEqual(["", ""]);
  expect(await ask("PING")).toMatchObject({ name: "millrace" });
});
