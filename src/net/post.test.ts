import { afterEach, describe, expect, test } from "bun:test";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { codeOf } from "../../tests/code-of.ts";
import { type PostOptions, post } from "./post.ts";

/** A server that speaks bytes, so that it can misbehave. */
interface Host {
  readonly port: number;
  readonly url: string;
  readonly requests: string[];
  /** Resolves when every connection so far has closed. */
  idle(): Promise<void>;
}

const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

async function serve(answer: (socket: Socket) => void): Promise<Host> {
  const sockets = new Set<Socket>();
  const requests: string[] = [];
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("close", () => sockets.delete(socket));
    let text = "";
    socket.on("data", (data) => {
      text += String(data);
      const sizeBytes = Number(/content-length: (\d+)/i.exec(text)?.[1] ?? Number.NaN);
      const bodyAt = text.indexOf("\r\n\r\n") + 4;
      if (bodyAt < 4 || Buffer.byteLength(text.slice(bodyAt)) < sizeBytes) return;
      requests.push(text);
      text = "";
      answer(socket);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  cleanups.push(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((done) => server.close(done));
  });
  return {
    port,
    url: `http://127.0.0.1:${port}/hook`,
    requests,
    idle: async () => {
      await Promise.all([...sockets].map((socket) => new Promise((done) => socket.once("close", done))));
    },
  };
}

const options: PostOptions = { allowHosts: ["127.0.0.1"], httpsOnly: false };
const send = (url: string, more: Partial<PostOptions> = {}, body = '{"größe":1}') =>
  post(url, { "content-type": "application/json", "webhook-id": "x" }, body, { ...options, ...more });
describe("post", () => {
  test("sends its headers and body and nothing else, and keeps no connection", async () => {
    const host = await serve((socket) => socket.write("HTTP/1.1 204 No Content\r\n\r\n"));
    expect(await send(host.url)).toEqual({ status: 204, retryAfter: null });
    await host.idle();
    const [head = "", body] = host.requests[0]?.split("\r\n\r\n") ?? [];
    expect(body).toBe('{"größe":1}');
    const names = head
      .split("\r\n")
      .slice(1)
      .map((line) => line.split(":")[0]?.toLowerCase());
    expect(names.toSorted()).toEqual(["connection", "content-length", "content-type", "host", "webhook-id"]);
  });

  test("a redirect is an answer: nobody goes there", async () => {
    const there = await serve((socket) => socket.end("HTTP/1.1 200 OK\r\n\r\n"));
    const host = await serve((socket) => socket.end(`HTTP/1.1 307 Go\r\nlocation: ${there.url}\r\n\r\n`));
    expect((await send(host.url)).status).toBe(307);
    expect(there.requests).toEqual([]);
  });

  test("what the receiver says of waiting comes along", async () => {
    const host = await serve((socket) =>
      socket.end("HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n"),
    );
    expect(await send(host.url)).toEqual({ status: 503, retryAfter: "7" });
  });

  test("an answer without an end is cut off, and is an answer", async () => {
    const flood = Buffer.alloc(64 * 1024, "x");
    const host = await serve((socket) => {
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n");
      const more = (): void => {
        while (!socket.destroyed && socket.write(flood));
      };
      socket.on("drain", more);
      more();
    });
    expect((await send(host.url)).status).toBe(200);
    await host.idle();
  });

  test.each([
    ["never answers", () => {}, "fetch_timeout"],
    ["closes", (socket: Socket) => socket.destroy(), "fetch_failed"],
    ["speaks something else", (socket: Socket) => socket.end("SSH-2.0-OpenSSH\r\n"), "fetch_failed"],
  ])("a receiver that %s fails it", async (_name, answer, code) => {
    const host = await serve(answer);
    expect(await codeOf(send(host.url, { totalMs: 200 }))).toBe(code);
    await host.idle();
  });

  test("a closed port fails it", async () => {
    const host = await serve(() => {});
    for (const cleanup of cleanups.splice(0)) await cleanup();
    expect(await codeOf(send(host.url))).toBe("fetch_failed");
  });

  test.each([
    ["an address that is not public", "http://127.0.0.1/", { allowHosts: [] }],
    ["a name without a dot", "http://localhost/", { allowHosts: [] }],
    ["plain http where that is refused", "http://127.0.0.1/", { httpsOnly: true }],
    ["a file", "file:///etc/hostname", {}],
    ["a user name", "http://a:b@127.0.0.1/", {}],
  ])("%s is refused before any connection", async (_name, url, more) => {
    expect(await codeOf(send(url, more))).toBe("fetch_blocked");
  });

  test("a name that leads to a private address when it is used is refused then", async () => {
    const host = await serve((socket) => socket.end("HTTP/1.1 200 OK\r\n\r\n"));
    const resolve = async () => [
      { address: "93.184.216.34", family: 4 },
      { address: "127.0.0.1", family: 4 },
    ];
    const url = `http://rebind.example:8080/hook`;
    expect(await codeOf(send(url, { allowHosts: [], resolve }))).toBe("fetch_blocked");
    expect(host.requests).toEqual([]);
  });

  test("an abort ends it with its reason", async () => {
    const host = await serve(() => {});
    const abort = new AbortController();
    const sent = send(host.url, { signal: abort.signal });
    abort.abort(new Error("enough"));
    await expect(sent).rejects.toThrow("enough");
    await expect(send(host.url, { signal: abort.signal })).rejects.toThrow("enough");
  });
});
