import { afterEach, expect, test } from "bun:test";
import { createServer, type Server, type Socket } from "node:net";
import type { BodyReader } from "./body-queue.ts";
import { HttpPool, type HttpRequest } from "./pool.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** A server of bare sockets: what it says and when is the test's. `onRequest` gets each request, whole or in parts. */
async function listen(
  onRequest: (socket: Socket, bytes: Buffer, connection: number) => void,
): Promise<{ url: URL; sockets: Socket[] }> {
  const sockets: Socket[] = [];
  const server: Server = createServer((socket) => {
    const connection = sockets.push(socket);
    socket.on("error", () => {}); // the client's resets
    socket.on("data", (bytes: Buffer) => onRequest(socket, bytes, connection));
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", resolve);
  await promise;
  closing.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return { url: new URL(`http://127.0.0.1:${address.port}/v1/chat/completions`), sockets };
}

const ok = (body: string): string => `HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\n\r\n${body}`;

function request(url: URL, more: Partial<HttpRequest> = {}): HttpRequest {
  const late = (): void => {};
  const body = Buffer.from("{}");
  return { url, headers: {}, body, signal: new AbortController().signal, connectMs: 2_000, onLate: late, ...more };
}

async function textOf(body: BodyReader): Promise<string> {
  let text = "";
  for (;;) {
    const { done, value } = await body.read();
    if (done) return text;
    text += Buffer.from(value).toString();
  }
}

test("requests one after the other share a connection, those at once do not", async () => {
  const { url, sockets } = await listen((socket, _, connection) => void socket.write(ok(`by ${connection}`)));
  const pool = new HttpPool();
  const ask = async () => textOf((await pool.post(request(url))).body.getReader());
  expect([await ask(), await ask()]).toEqual(["by 1", "by 1"]);
  expect((await Promise.all([ask(), ask()])).toSorted()).toEqual(["by 1", "by 2"]);
  expect(sockets.length).toBe(2);
});

test("a request is what HTTP asks for, whatever its headers and address hold", async () => {
  const heard = Promise.withResolvers<string>();
  const { url } = await listen((socket, bytes) => {
    heard.resolve(bytes.toString("latin1"));
    socket.write(ok(""));
  });
  const pool = new HttpPool();
  const asked = new URL("/a b/ä?c=d#e", url);
  await pool.post(request(asked, { headers: { Authorization: "Bearer k", "x-y": "z" }, body: Buffer.from("{}") }));
  const [head, body] = (await heard.promise).split("\r\n\r\n");
  expect([head?.split("\r\n"), body]).toEqual([
    ["POST /a%20b/%C3%A4?c=d HTTP/1.1", `host: ${url.host}`, "content-length: 2", "authorization: Bearer k", "x-y: z"],
    "{}",
  ]);
  expect(pool.post(request(url, { headers: { "x-y": "z\r\nx-evil: 1" } }))).rejects.toThrow(TypeError);
});

test("Bun's own server and its chunks are understood", async () => {
  const pieces = ["one ", "two ", "three"];
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(asked) {
      const sent = await asked.text();
      return new Response(
        new ReadableStream({
          async start(controller) {
            for (const piece of pieces) {
              controller.enqueue(piece);
              await new Promise(setImmediate);
            }
            controller.enqueue(` ${sent.length}`);
            controller.close();
          },
        }),
      );
    },
  });
  closing.push(() => server.stop(true));
  const body = Buffer.alloc(8 * 1024 * 1024, "a");
  const response = await new HttpPool().post(request(new URL(server.url), { body }));
  expect(await textOf(response.body.getReader())).toBe(`one two three ${body.length}`);
});

test("a connection that the server closed while it rested costs no request", async () => {
  const { url, sockets } = await listen((socket, _, connection) => {
    if (connection === 1 && socket.bytesWritten > 0) return socket.destroy(); // as if it had just timed out
    socket.write(ok(`by ${connection}`));
  });
  const pool = new HttpPool();
  const ask = async () => textOf((await pool.post(request(url))).body.getReader());
  expect([await ask(), await ask()]).toEqual(["by 1", "by 2"]);
  const closed = Promise.withResolvers<void>();
  sockets[1]?.once("close", closed.resolve);
  sockets[1]?.end();
  await closed.promise;
  expect(await ask()).toBe("by 3");
});

test("a new connection that breaks is told, and not tried again", async () => {
  const { url, sockets } = await listen((socket) => void socket.destroy());
  expect(new HttpPool().post(request(url))).rejects.toThrow();
  await new Promise(setImmediate);
  const nobody = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
  const free = nobody.port;
  nobody.stop(true);
  expect(new HttpPool().post(request(new URL(`http://127.0.0.1:${free}/`)))).rejects.toThrow();
  expect(sockets.length).toBeLessThanOrEqual(1);
});

test("what is no HTTP, or is cut off, is an error of its reader", async () => {
  const says = ["nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"];
  const { url } = await listen((socket, _, connection) => {
    socket.end(says[connection - 1] ?? "");
  });
  const pool = new HttpPool();
  expect(pool.post(request(url))).rejects.toThrow("no status line");
  const body = (await pool.post(request(url))).body.getReader();
  expect(Buffer.from((await body.read()).value ?? []).toString()).toBe("half");
  expect(body.read()).rejects.toThrow("closed within a response");
});

test("a body that ends with its connection ends by a close, and not by a reset", async () => {
  const { url, sockets } = await listen((socket) => void socket.write("HTTP/1.1 200 OK\r\n\r\nhalf"));
  const pool = new HttpPool();
  const closed = (await pool.post(request(url))).body.getReader();
  sockets[0]?.end();
  expect(await textOf(closed)).toBe("half");
  const reset = (await pool.post(request(url))).body.getReader();
  await reset.read();
  sockets[1]?.resetAndDestroy();
  await expect(reset.read()).rejects.toThrow("ECONNRESET");
});

test("an abort closes the socket: before the head, within the body, and for who does not read on", async () => {
  const closed: Promise<void>[] = [];
  const { url } = await listen((socket, _, connection) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    socket.once("close", resolve);
    closed.push(promise);
    if (connection > 1) socket.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
    else controller.abort(new Error("enough"));
  });
  const pool = new HttpPool();
  let controller = new AbortController();
  await expect(pool.post(request(url, { signal: controller.signal }))).rejects.toThrow("enough");
  controller = new AbortController();
  const second = (await pool.post(request(url, { signal: controller.signal }))).body.getReader();
  await second.read();
  controller.abort(new Error("enough"));
  await expect(second.read()).rejects.toThrow("enough");
  const third = (await pool.post(request(url))).body.getReader();
  await third.cancel();
  await Promise.all(closed);
  expect(closed.length).toBe(3);
  expect(pool.post(request(url, { signal: AbortSignal.abort(new Error("before")) }))).rejects.toThrow("before");
});

test("a server is held back while nobody reads, and goes on when somebody does", async () => {
  const [pieces, piece] = [512, Buffer.alloc(128 * 1024, "a")];
  let sent = 0;
  const { url } = await listen((socket) => {
    const next = (): void => {
      if (sent++ < pieces) socket.write(piece, next);
    };
    socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${pieces * piece.length}\r\n\r\n`, next);
  });
  const body = (await new HttpPool().post(request(url))).body.getReader();
  // Kernels hold some megabytes on both sides.
  let before = -1;
  for (let same = 0; same < 50; same = sent === before ? same + 1 : 0) {
    before = sent;
    await new Promise(setImmediate);
  }
  expect(sent).toBeLessThan(pieces / 2);
  expect((await textOf(body)).length).toBe(pieces * piece.length);
});

test("a call that is over before it is sent takes no connection, and leaves those that rest", async () => {
  const { url, sockets } = await listen((socket, _, connection) => void socket.write(ok(`by ${connection}`)));
  const pool = new HttpPool();
  const ask = async (signal = new AbortController().signal) =>
    textOf((await pool.post(request(url, { signal }))).body.getReader());
  const over = AbortSignal.abort(new Error("before"));
  await expect(ask(over)).rejects.toThrow("before");
  expect(await ask()).toBe("by 1");
  await expect(ask(over)).rejects.toThrow("before");
  expect(await ask()).toBe("by 1");
  expect(sockets.length).toBe(1);
});

test("headers of a provider that would change where a request ends do not; its host is the one that is sent", async () => {
  const heads: string[] = [];
  const { url } = await listen((socket, bytes) => {
    heads.push(bytes.toString("latin1"));
    socket.write(ok(""));
  });
  const headers = { Host: "models.internal", "Content-Length": "1", "transfer-encoding": "chunked" };
  await new HttpPool().post(request(url, { headers }));
  const [head, body] = heads.join("").split("\r\n\r\n");
  expect(head?.split("\r\n").slice(1)).toEqual(["host: models.internal", "content-length: 2"]);
  expect(body).toBe("{}");
});

/** Sends as fast as it is taken, from a thread of its own. */
const FLOOD = `
import { createServer } from "node:net";
const piece = Buffer.alloc(1024 * 1024, "a");
const server = createServer((socket) => {
  const more = () => { while (!socket.destroyed && socket.write(piece)); };
  socket.on("error", () => {}).on("drain", more).once("data", () => {
    socket.write("HTTP/1.1 200 OK\\r\\n\\r\\n");
    more();
  });
});
server.listen(0, "127.0.0.1", () => postMessage(server.address().port));
`;

/** Enough for the kernel to make its buffers large. */
const FLOOD_BYTES = 100 * 1024 * 1024;

test("a server that sends faster than it is read leaves the loop to others", async () => {
  const worker = new Worker(URL.createObjectURL(new Blob([FLOOD])));
  closing.push(() => worker.terminate());
  const port = await new Promise<number>((resolve) => {
    worker.onmessage = ({ data }) => resolve(data);
  });
  const body = (await new HttpPool().post(request(new URL(`http://127.0.0.1:${port}/`)))).body.getReader();
  let [reads, readsMax, bytes] = [0, 0, 0];
  const turn = (): void => {
    readsMax = Math.max(readsMax, reads);
    reads = 0;
    if (bytes < FLOOD_BYTES) setImmediate(turn);
  };
  turn();
  while (bytes < FLOOD_BYTES) {
    bytes += (await body.read()).value?.length ?? 0;
    reads++;
    // What looking into half a megabyte takes: more has come meanwhile.
    for (const sinceMs = performance.now(); performance.now() - sinceMs < 5; );
  }
  await body.cancel();
  expect(readsMax).toBeLessThanOrEqual(2);
});
