// Event streams of events that are given by hand, over a real socket: order, beats, back-pressure, and that nothing is
// left when either side goes. Which events a task has is tested on the real stack.
import { expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import type { TaskEvent } from "../tasks/tasks.ts";
import { eventStream, eventText } from "./event-stream.ts";
import { acceptsEventStream } from "./events.ts";
import { createHolds, type Hold } from "./holds.ts";
import { type Fixture, knownTaskId, startFixture, testKey } from "./server-fixture.ts";

const path = `/v1/tasks/${knownTaskId}/events`;
const event = (n: number, name = "delta", data = `{"n":${n}}`): TaskEvent => ({ id: `1.${n}`, event: name, data });

/** A source that a test drives, and that tells when its reader has let go. */
function source(signal: AbortSignal, events: readonly TaskEvent[], parked: boolean) {
  const released = Promise.withResolvers<void>();
  async function* run(): AsyncGenerator<TaskEvent> {
    try {
      yield* events;
      if (parked) await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    } finally {
      released.resolve();
    }
  }
  return { events: run(), released: released.promise };
}

const startSource = async (events: readonly TaskEvent[], parked: boolean) => {
  const released = Promise.withResolvers<void>();
  const asked: (string | null)[] = [];
  const server = await startFixture({
    tasks: {
      async events(_taskId, _owner, lastEventId, signal) {
        asked.push(lastEventId);
        const made = source(signal, events, parked);
        void made.released.then(released.resolve);
        return made.events;
      },
    },
  });
  return { server, asked, released: released.promise };
};

test("events come in order and the stream ends after the last", async () => {
  const { server, asked } = await startSource([event(1, "STARTED"), event(2), event(3, "SUCCESS")], false);
  await using _ = server;
  const response = await server.send(path, { headers: { "last-event-id": "0.1" } });
  expect(response.status).toBe(200);
  expect(Object.fromEntries(response.headers)).toMatchObject({
    "content-type": "text/event-stream",
    "cache-control": "no-store",
    "x-accel-buffering": "no",
  });
  expect(await response.text()).toBe(
    'retry: 1000\n\nid: 1.1\nevent: STARTED\ndata: {"n":1}\n\nid: 1.2\nevent: delta\ndata: {"n":2}\n\n' +
      'id: 1.3\nevent: SUCCESS\ndata: {"n":3}\n\n',
  );
  expect(asked).toEqual(["0.1"]);
  expect(server.http.heldCount()).toBe(0);
});

test("a line break in the data cannot make another event", () => {
  expect(eventText(event(1, "log", "a\nid: 9\r\nevent: SUCCESS\rdata: x"))).toBe(
    "id: 1.1\nevent: log\ndata: a\ndata: id: 9\ndata: event: SUCCESS\ndata: data: x\n\n",
  );
});

test("a client that leaves frees the source, the signal and the place", async () => {
  const { server, released } = await startSource([event(1)], true);
  await using _ = server;
  const controller = new AbortController();
  const response = await server.send(path, { signal: controller.signal });
  const reader = response.body?.getReader();
  await reader?.read();
  expect(server.http.heldCount()).toBe(1);
  controller.abort();
  await released;
  expect(server.http.heldCount()).toBe(0);
});

test("a client that reads nothing holds the source back, and leaving under pressure is clean", async () => {
  let given = 0;
  const left = Promise.withResolvers<void>();
  const data = JSON.stringify({ text: "x".repeat(32_000) });
  async function* endless(): AsyncGenerator<TaskEvent> {
    try {
      for (;;) {
        given++;
        yield event(given, "delta", data);
      }
    } finally {
      left.resolve();
    }
  }
  await using server = await startFixture({ tasks: { events: async () => endless() } });
  const socket = await openRaw(server);
  await settled(() => given);
  // What the kernel's socket buffers take, and no more: 64 MiB would be 2,000 of these.
  expect(given).toBeLessThan(2_000);
  const stalledAt = given;
  socket.resume();
  await until(() => given > stalledAt + 100);
  socket.destroy();
  await left.promise;
  expect(server.http.heldCount()).toBe(0);
  expect((await server.send("/health/live")).status).toBe(200);
});

test("a source that fails resets the connection after what it gave", async () => {
  async function* failing(): AsyncGenerator<TaskEvent> {
    yield event(1);
    throw new Error("the broker is gone");
  }
  const warned: object[] = [];
  await using server = await startFixture({
    tasks: { events: async () => failing() },
    log: { debug() {}, info() {}, error() {}, warn: (fields) => warned.push(fields), child: () => silent },
  });
  const socket = await openRaw(server);
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  socket.resume();
  await new Promise((resolve) => socket.on("close", resolve));
  const text = Buffer.concat(chunks).toString();
  expect(text).toContain("id: 1.1\n");
  // No last chunk of length zero: what ended here is the connection, not the answer.
  expect(text).not.toContain("\r\n0\r\n\r\n");
  expect(warned).toEqual([expect.objectContaining({ task_id: knownTaskId, error: "the broker is gone" })]);
  expect(server.http.heldCount()).toBe(0);
});

test("stopping ends streams in good order", async () => {
  const { server, released } = await startSource([event(1)], true);
  const response = await server.send(path);
  const reader = response.body?.getReader();
  await reader?.read();
  const stopped = server.http.stop(5_000);
  let last = await reader?.read();
  while (last && !last.done) last = await reader?.read();
  expect(last?.done).toBe(true);
  await Promise.all([stopped, released]);
});

test("silence is broken by beats, and a beat loses no event", async () => {
  const hold = freeHold();
  const late = Promise.withResolvers<void>();
  async function* slow(): AsyncGenerator<TaskEvent> {
    await late.promise;
    yield event(1, "SUCCESS");
  }
  const stream = eventStream(slow(), hold, fail, { beatMs: 1, stallMs: 10_000, lifeMs: 10_000 });
  let text = "";
  for await (const chunk of stream) {
    text += new TextDecoder().decode(chunk);
    if (text.split(": beat\n\n").length > 3) late.resolve();
  }
  expect(text).toStartWith("retry: 1000\n\n: beat\n\n: beat\n\n: beat\n\n");
  expect(text).toEndWith('id: 1.1\nevent: SUCCESS\ndata: {"n":1}\n\n');
  expect(hold.signal.aborted).toBe(true);
});

test("a client that takes nothing for too long is cut off, and an old stream ends in good order", async () => {
  const stalled = freeHold();
  const parked = source(stalled.signal, [], true);
  const cut = eventStream(parked.events, stalled, fail, { beatMs: 5_000, stallMs: 5, lifeMs: 10_000 });
  await aborted(stalled.signal);
  await expect(cut.getReader().read()).rejects.toThrow("reads nothing");

  const old = freeHold();
  const ended = eventStream(source(old.signal, [], true).events, old, fail, {
    beatMs: 5_000,
    stallMs: 10_000,
    lifeMs: 5,
  });
  const reader = ended.getReader();
  while (!(await reader.read()).done);
  expect(old.signal.aborted).toBe(true);
});

test("a last event id of another form is refused, the terminal one is 204", async () => {
  await using server = await startFixture();
  for (const id of ["x", "1", "1.2.3", "-1.2", "1.2 ", `1.${"9".repeat(13)}`]) {
    const query = new URLSearchParams({ last_event_id: id });
    expect([id, (await server.send(`${path}?${query}`)).status]).toEqual([id, 422]);
  }
  expect((await server.send(path, { headers: { "last-event-id": "nope" } })).status).toBe(422);
  expect((await server.send(`${path}?last_event_id=1.2`)).status).toBe(204);
  expect(server.http.heldCount()).toBe(0);
});

test.each([
  [null, true],
  ["*/*", true],
  ["text/event-stream", true],
  ["TEXT/*;q=0.5", true],
  ["application/json, text/event-stream;q=0.1", true],
  ["application/json", false],
  ["text/html, text/plain", false],
  ["text/event-stream;q=0", false],
  ["*/*, text/event-stream; q=0.0", false],
  ["*/*;q=0, text/event-stream", true],
])("Accept: %p takes an event stream: %p", async (header, accepted) => {
  expect(acceptsEventStream(header)).toBe(accepted);
});

test("406 where no event stream is acceptable; HEAD opens none", async () => {
  await using server = await startFixture();
  const refused = await server.send(path, { headers: { accept: "application/json" } });
  expect([refused.status, ((await refused.json()) as { code: string }).code]).toEqual([406, "not_acceptable"]);
  const head = await server.send(path, { method: "HEAD" });
  expect([head.status, head.headers.get("content-type")]).toEqual([200, "text/event-stream"]);
  expect(server.calls).toEqual(["read"]);
});

const silent = { debug() {}, info() {}, warn() {}, error() {}, child: () => silent };

const fail = (error: unknown): never => {
  throw error;
};

const freeHold = (): Hold =>
  createHolds(() => {}).open({ request: new Request("http://localhost/"), owner: { keyId: "alice" } });

const aborted = (signal: AbortSignal): Promise<unknown> =>
  new Promise((resolve) =>
    signal.aborted ? resolve(null) : signal.addEventListener("abort", resolve, { once: true }),
  );

/** A client that sends its request and then does not read. */
const openRaw = (server: Fixture): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket = connect(Number(new URL(server.url).port), "127.0.0.1", () => {
      socket.pause();
      socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nx-api-key: ${testKey}\r\n\r\n`);
      resolve(socket);
    });
    socket.on("error", (error: Error & { code?: string }) => {
      if (error.code !== "ECONNRESET") reject(error);
    });
  });

/** Turns of the event loop until `holds`; the test's own timeout is the deadline. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setImmediate(resolve));
}

/** Until a value is above zero and has not changed for 2,000 turns of the event loop. */
async function settled(value: () => number): Promise<void> {
  let last = 0;
  for (let turns = 0; turns < 2_000 || last === 0; turns++) {
    if (value() !== last) turns = 0;
    last = value();
    await new Promise((resolve) => setImmediate(resolve));
  }
}
