// Event streams as a client follows them, on the whole service: whole, resumed in the middle, after a restart of the
// gateway, after the end, and after the broker has lost the events.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { streams, subjects } from "../src/bus/subjects.ts";
import { events, ids, names, openEvents, type ReadEvent, readEvents } from "./event-reader.ts";
import { type Stack, startStack } from "./stack.ts";

setDefaultTimeout(60_000);

let stack: Stack;

beforeAll(async () => {
  const pluginsDir = join(import.meta.dir, "fixtures/plugins");
  stack = await startStack({ settings: { PLUGINS_DIR: pluginsDir, MODELS: "echo,streamer" } });
});

afterAll(() => stack.stop());

const submitStreamer = async (deltas: number, everyMs: number): Promise<string> =>
  (await stack.submit({ model: "streamer", input: { deltas, every_ms: everyMs } })).task_id;

/** What a stream of one attempt with so many deltas looks like from the start. */
const wholeStream = (deltas: number): { id: string; event: string }[] => [
  { id: "0.0", event: "PENDING" },
  { id: "1.1", event: "STARTED" },
  ...Array.from({ length: deltas }, (_, i) => ({ id: `1.${i + 2}`, event: "delta" })),
  { id: `1.${deltas + 2}`, event: "SUCCESS" },
];
const shape = (read: readonly ReadEvent[]) => read.map(({ id, event }) => ({ id, event }));

test("a stream followed live and one read after the end are the same, in order, and end by themselves", async () => {
  const id = await submitStreamer(30, 5);
  const live = await readEvents(stack, id);
  expect(shape(live)).toEqual(wholeStream(30));
  expect(live.slice(2, -1).map(({ data }) => data.i)).toEqual(Array.from({ length: 30 }, (_, i) => i + 1));
  expect(await readEvents(stack, id)).toEqual(live);
  expect(live.at(-1)?.data).toEqual(await stack.read(id));
  expect(live[0]?.data).toMatchObject({ task_id: id, status: "PENDING", model: "streamer", attempt: 0 });
});

test("a burst faster than any client reads arrives whole", async () => {
  const id = await submitStreamer(3_000, 0);
  const readers = await Promise.all([1, 2, 3].map(() => readEvents(stack, id)));
  for (const read of readers) expect(shape(read)).toEqual(wholeStream(3_000));
});

test("resumed at every id of a finished task: what comes after it, once", async () => {
  const id = await submitStreamer(5, 0);
  const whole = await readEvents(stack, id);
  for (const [index, { id: lastEventId }] of whole.slice(0, -1).entries()) {
    expect(await readEvents(stack, id, { lastEventId })).toEqual(whole.slice(index + 1));
  }
});

test("after the terminal id there is nothing more: 204", async () => {
  const id = await submitStreamer(1, 0);
  const last = (await readEvents(stack, id)).at(-1)?.id ?? "";
  const answer = await openEvents(stack, id, { lastEventId: last });
  expect([answer.status, await answer.text()]).toEqual([204, ""]);
});

test("a client that leaves and comes back, again and again, misses and repeats nothing", async () => {
  const id = await submitStreamer(100, 10);
  const whole: ReadEvent[] = [];
  const staying = (async () => {
    for await (const event of events(stack, id)) whole.push(event);
  })();
  const seen: ReadEvent[] = [];
  while (seen.at(-1)?.event !== "SUCCESS") {
    await stack.until("an event while it is away", 10_000, async () =>
      whole.length > seen.length + 2 || whole.at(-1)?.event === "SUCCESS" ? true : null,
    );
    const lastEventId = seen.at(-1)?.id;
    const taken: ReadEvent[] = [];
    for await (const event of events(stack, id, lastEventId === undefined ? {} : { lastEventId })) {
      taken.push(event);
      if (taken.length === 7) break;
    }
    seen.push(...taken);
  }
  await staying;
  expect(shape(seen)).toEqual(wholeStream(100));
  expect(seen).toEqual(whole);
});

test("a client that leaves takes its hold with it", async () => {
  const { task_id: id } = await stack.submit({ model: "echo", input: { sleep_ms: 600_000 } });
  const watched = (): Promise<boolean> => brokerKnows(subjects.events(id));
  const leaving = new AbortController();
  const response = await openEvents(stack, id, { signal: leaving.signal });
  await stack.until("the gateway listens", 10_000, async () => ((await watched()) ? true : null));
  leaving.abort();
  await response.body?.cancel().catch(() => {});
  await stack.until("the gateway no longer listens", 10_000, async () => ((await watched()) ? null : true));
  await stack.call("DELETE", `/v1/tasks/${id}`);
  await stack.ended(id);
});

/** Whether any connection to the broker subscribes to `subject`. */
async function brokerKnows(subject: string): Promise<boolean> {
  const folder = join(stack.dataDir, "nats/ports");
  const [file = ""] = (await readdir(folder)).filter((name) => name.endsWith(".ports"));
  const { monitoring } = JSON.parse(await readFile(join(folder, file), "utf8")) as { monitoring: string[] };
  const answer = await fetch(`${monitoring[0]}/connz?subs=1`);
  const { connections } = (await answer.json()) as { connections: { subscriptions_list?: string[] }[] };
  return connections.some(({ subscriptions_list }) => subscriptions_list?.includes(subject));
}

const purge = async (taskId: string): Promise<void> => {
  const filter = JSON.stringify({ filter: subjects.events(taskId) });
  const reply = await stack.bus.request(`$JS.API.STREAM.PURGE.${streams.events}`, filter, { timeoutMs: 5_000 });
  expect(JSON.parse(reply.text())).toMatchObject({ success: true });
};

test("events lost by the broker: a reset with a snapshot, then what follows, then the end", async () => {
  const id = await submitStreamer(200, 10);
  const whole = await readEvents(stack, id, { last: ({ id: at }) => at === "1.20" });
  const before = whole.slice(0, ids(whole).indexOf("1.10") + 1);
  await purge(id);
  const after = await readEvents(stack, id, { lastEventId: "1.10" });
  expect(after[0]).toMatchObject({ event: "reset", data: { task_id: id } });
  expect(names(after).filter((event) => event === "reset")).toHaveLength(1);
  const numbers = ids([...before, ...after]).map((at) => Number(at.split(".")[1]));
  expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
  const unique = new Set(ids(after.slice(1)));
  expect(unique.size).toBe(after.length - 1);
  expect(after.at(-1)).toMatchObject({ id: "1.202", event: "SUCCESS" });
  // From the first event that came, none is missing.
  const deltas = after.filter(({ event }) => event === "delta").map(({ data }) => Number(data.i));
  expect(deltas).toEqual(Array.from({ length: deltas.length }, (_, i) => 200 - deltas.length + 1 + i));
});

test("a new reader of a task whose first events are lost is told so", async () => {
  const id = await submitStreamer(200, 10);
  await readEvents(stack, id, { last: ({ id: at }) => at === "1.10" });
  await purge(id);
  const read = await readEvents(stack, id);
  expect(names(read).slice(0, 2)).toEqual(["PENDING", "reset"]);
  expect(read.at(-1)).toMatchObject({ id: "1.202", event: "SUCCESS" });
});

test("of a finished task without events the end is what is left", async () => {
  const id = await submitStreamer(3, 0);
  await stack.ended(id);
  await purge(id);
  expect(names(await readEvents(stack, id))).toEqual(["PENDING", "SUCCESS"]);
  expect(names(await readEvents(stack, id, { lastEventId: "1.3" }))).toEqual(["SUCCESS"]);
});

test("kill -9 of the gateway cuts the stream; resumed on the next one it goes on where it was", async () => {
  const id = await submitStreamer(300, 10);
  const seen: ReadEvent[] = [];
  const follow = async (): Promise<void> => {
    const lastEventId = seen.at(-1)?.id;
    for await (const event of events(stack, id, lastEventId === undefined ? {} : { lastEventId })) {
      seen.push(event);
      if (event.id === "1.20") process.kill(await stack.pidOf("gateway"), "SIGKILL");
    }
  };
  await expect(follow()).rejects.toThrow();
  expect(seen.length).toBeGreaterThanOrEqual(21);
  await stack.logged({ message: "child is ready", process: "gateway", start: 2 });
  await follow();
  expect(shape(seen)).toEqual(wholeStream(300));
});
