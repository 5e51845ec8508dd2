// Following a task over connections that break off, fall silent and are refused, as networks do. The server here speaks
// the protocol by hand, so that each fault comes when the test wants it.
import { expect, test } from "bun:test";
import fc from "fast-check";
import { createClient } from "./client.ts";
import { createEventParser, follow, type TaskEvent } from "./events.ts";

const event = (id: string, name = "progress"): string => `id: ${id}\nevent: ${name}\ndata: {"n":"${id}"}\n\n`;

test("a stream gives the same events however it is cut into pieces", () => {
  const stream = `: beat\n\nretry: 1000\n\n${event("1.1")}id: 1.2\r\nevent: delta\r\ndata: a\r\ndata: b\r\n\r\n${event("1.3")}`;
  const whole: TaskEvent[] = [
    { id: "1.1", event: "progress", data: '{"n":"1.1"}' },
    { id: "1.2", event: "delta", data: "a\nb" },
    { id: "1.3", event: "progress", data: '{"n":"1.3"}' },
  ];
  fc.assert(
    fc.property(fc.array(fc.nat(stream.length)), (cuts) => {
      const places = [0, ...cuts.toSorted((a, b) => a - b), stream.length];
      const pieces = places.slice(1).map((place, i) => stream.slice(places[i], place));
      const parse = createEventParser();
      expect(pieces.flatMap(parse)).toEqual(whole);
    }),
  );
});

test("what sends without an end is given up", () => {
  const parse = createEventParser();
  const sendAll = (piece: string): void => {
    for (let i = 0; i < 10; i++) parse(piece);
  };
  expect(() => sendAll("x".repeat(1024 * 1024))).toThrow("no event stream");
  const parseLines = createEventParser();
  expect(() => {
    for (let i = 0; i < 10; i++) parseLines(`data: ${"x".repeat(1024 * 1024)}\n`);
  }).toThrow("no event stream");
});

interface Server extends AsyncDisposable {
  readonly url: string;
  /** `Last-Event-ID` of each request, empty without one. */
  readonly asked: string[];
}

interface Scripted {
  readonly status: string;
  readonly type?: string;
  readonly header?: string;
  readonly body: string;
  /** What comes after the body: its proper end, a broken connection, or nothing. */
  readonly after: "end" | "cut" | "stay";
}

/** Answers one request after another by these; the last one again and again. One connection each. */
function startServer(answers: readonly Scripted[]): Server {
  const asked: string[] = [];
  const server = Bun.listen({
    port: 0,
    hostname: "127.0.0.1",
    socket: {
      data(socket, bytes) {
        asked.push(/^last-event-id: (.+)\r$/im.exec(bytes.toString())?.[1] ?? "");
        const answer = answers[Math.min(asked.length, answers.length) - 1];
        if (!answer) throw new Error("no answer is scripted");
        const { status, type = "text/event-stream", header = "x-a: b", body, after } = answer;
        const length = body.length + (after === "end" ? 0 : 1); // what is cut or stays has more to come
        const head = `content-type: ${type}\r\ncontent-length: ${length}\r\n${header}\r\nconnection: close`;
        socket.write(`HTTP/1.1 ${status}\r\n${head}\r\n\r\n${body}`);
        if (after !== "stay") socket.end();
      },
    },
  });
  return {
    url: `http://127.0.0.1:${server.port}`,
    asked,
    async [Symbol.asyncDispose]() {
      server.stop(true);
    },
  };
}

const stream = (body: string, after: Scripted["after"]): Scripted => ({ status: "200 OK", body, after });
const problem = (status: string, code: string): Scripted => ({
  status,
  type: "application/problem+json",
  body: JSON.stringify({ code, detail: "No." }),
  after: "end",
});

async function followed({ url }: Server, limits = { silenceMs: 200, awayMs: 300 }): Promise<string[]> {
  const seen: string[] = [];
  const client = createClient({ url, apiKey: "key" }, new AbortController().signal);
  for await (const { id, event } of follow(client, "task", limits)) {
    seen.push(id);
    if (event === "SUCCESS") break;
  }
  return seen;
}

test("a stream that ends, is cut, is refused for now or falls silent goes on after the last event seen", async () => {
  await using server = startServer([
    stream(event("1.1"), "end"),
    stream(": beat\n\n", "cut"),
    problem("503 Busy", "not_ready"),
    stream(`${event("1.2")}id: 1.3\nevent: half`, "stay"),
    stream(event("1.3") + event("1.4", "SUCCESS"), "stay"),
  ]);
  expect(await followed(server, { silenceMs: 200, awayMs: 10_000 })).toEqual(["1.1", "1.2", "1.3", "1.4"]);
  expect(server.asked).toEqual(["", "1.1", "1.1", "1.1", "1.2"]);
});

test("204 says that there is nothing more", async () => {
  await using server = startServer([stream(event("1.1"), "end"), { status: "204 No Content", body: "", after: "end" }]);
  expect(await followed(server)).toEqual(["1.1"]);
});

test("what is refused for good is not asked again", async () => {
  await using server = startServer([problem("404 None", "task_not_found")]);
  expect(await followed(server).catch((error: unknown) => error)).toMatchObject({
    exitCode: 4,
    message: "No. (task_not_found)",
  });
  expect(server.asked).toHaveLength(1);
});

test.each([
  ["that is busy", problem("503 Busy", "not_ready")],
  ["that is another service", { status: "502 Bad", body: "<html>", after: "end" } as const],
])("a gateway %s is given up in the end", async (_name, answer) => {
  await using server = startServer([stream(event("1.1"), "end"), answer]);
  expect(await followed(server).catch((error: unknown) => error)).toMatchObject({ exitCode: 3 });
  expect(server.asked.length).toBeGreaterThan(2);
});

test("an interrupt ends it at once", async () => {
  await using server = startServer([stream(event("1.1"), "stay")]);
  const interrupt = new AbortController();
  const client = createClient({ url: server.url, apiKey: "key" }, interrupt.signal);
  const events = follow(client, "task", { silenceMs: 60_000, awayMs: 60_000 });
  expect((await events.next()).value).toMatchObject({ id: "1.1" });
  const next = events.next().catch((error: unknown) => error);
  interrupt.abort();
  expect(await next).toMatchObject({ exitCode: 130 });
});

test("a redirect is not followed: the key would go with it", async () => {
  await using elsewhere = startServer([stream(event("1.1", "SUCCESS"), "end")]);
  await using server = startServer([
    { ...stream("", "end"), status: "307 There", header: `location: ${elsewhere.url}` },
  ]);
  expect(await followed(server).catch((error: unknown) => error)).toMatchObject({ exitCode: 3 });
  expect(elsewhere.asked).toEqual([]);
});
