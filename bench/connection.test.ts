import { describe, expect, test } from "bun:test";
import { Connection, parseMessage } from "./connection.ts";

describe("parseMessage", () => {
  test("waits for the head, then for the whole body", () => {
    expect(parseMessage("HTTP/1.1 200 OK\r\ncontent-")).toBeNull();
    expect(parseMessage("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")).toMatchObject({
      complete: false,
      body: "ab",
    });
    const whole = parseMessage("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcdHTTP");
    expect(whole).toMatchObject({ complete: true, body: "abcd" });
  });

  test("joins chunks cut at any byte", () => {
    const message =
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nb\r\n\r\n01234567\r\n\r\n0\r\n\r\n";
    for (let cut = 0; cut < message.length; cut++) {
      expect(parseMessage(message.slice(0, cut))?.complete ?? false).toBe(false);
    }
    expect(parseMessage(`${message}next`)).toMatchObject({
      complete: true,
      body: "abc\r\n01234567\r",
    });
  });

  test("knows an answer without a body", () => {
    expect(parseMessage("HTTP/1.1 204 No Content\r\nx: y\r\n\r\n")).toMatchObject({ complete: true, body: "" });
  });
});

describe("a connection", () => {
  test("sends key, headers and body, and reads UTF-8 back", async () => {
    await using server = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch: async (request) =>
        new Response(`${request.method} ${request.headers.get("x-api-key")} ${await request.text()} grüße`, {
          status: 202,
          headers: { "retry-after": "3" },
        }),
    });
    const connection = new Connection(server.url, "x-api-key: k\r\n");
    const answer = await connection.request({ method: "POST", path: "/v1/tasks", body: '{"ä":1}' });
    expect(answer).toEqual({ status: 202, body: 'POST k {"ä":1} grüße', retryAfterS: 3 });
    connection.close();
  });

  test("repeats a request once on a connection that the server has closed", async () => {
    let answers = 0;
    const server = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        data: (socket) => {
          // Every second request meets a connection that closes without a word.
          if (answers++ % 2 === 0) socket.write(`HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n${answers}`);
          else socket.end();
        },
      },
    });
    const connection = new Connection(new URL(`http://127.0.0.1:${server.port}`), "");
    const bodies = [];
    for (let i = 0; i < 3; i++) bodies.push((await connection.request({ method: "GET", path: "/" })).body);
    expect(bodies).toEqual(["1", "3", "5"]);
    connection.close();
    server.stop(true);
  });

  test("gives up when nothing listens", async () => {
    const server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response() });
    const { url } = server;
    await server.stop(true);
    await expect(new Connection(url, "").request({ method: "GET", path: "/" })).rejects.toThrow();
  });
});
