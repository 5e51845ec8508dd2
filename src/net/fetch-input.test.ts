import { afterEach, describe, expect, test } from "bun:test";
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import tls from "node:tls";
import { AppError } from "../errors.ts";
import { type FetchOptions, fetchInput } from "./fetch-input.ts";

/** A server that speaks bytes, so that it can misbehave; `seen` counts connections, `gone` those that have closed. */
interface Host {
  readonly port: number;
  readonly url: string;
  readonly requests: string[];
  seen: number;
  gone: number;
  /** Resolves when every connection so far has closed. */
  idle(): Promise<void>;
}

const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

async function serve(
  answer: (socket: Socket, path: string) => void,
  on: { address?: string; port?: number; secure?: boolean } = {},
): Promise<Host> {
  const sockets = new Set<Socket>();
  const accept = (socket: Socket): void => {
    host.seen++;
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("close", () => {
      host.gone++;
      sockets.delete(socket);
    });
    socket.once("data", (data) => {
      host.requests.push(String(data));
      answer(socket, String(data).split(" ")[1] ?? "");
    });
  };
  const server: Server = on.secure ? tls.createServer({ key: KEY, cert: CERT }, accept) : createServer(accept);
  server.listen(on.port ?? 0, on.address ?? "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const host: Host = {
    port,
    url: `http://127.0.0.1:${port}`,
    requests: [],
    seen: 0,
    gone: 0,
    idle: async () => {
      await Promise.all([...sockets].map((socket) => new Promise((done) => socket.once("close", done))));
    },
  };
  cleanups.push(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((done) => server.close(done));
  });
  return host;
}

const answerWith =
  (head: string, body = "") =>
  (socket: Socket): void => {
    socket.end(`HTTP/1.1 ${head}\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
  };

const loopback = async (): Promise<{ address: string; family: number }[]> => [{ address: "127.0.0.1", family: 4 }];

/** The code that `fetchInput` fails with. The message must be fit for a client: no URL, no address, no upstream text. */
async function codeOf(url: string, options: Partial<FetchOptions> = {}): Promise<string> {
  const error = await fetchInput(url, { allowHosts: ["127.0.0.1"], ...options }).then(
    () => null,
    (failure: unknown) => failure,
  );
  expect(error).toBeInstanceOf(AppError);
  if (!(error instanceof AppError)) return "";
  expect(error.message).not.toMatch(/127\.|169\.|example|secret|ECONN|certificate/i);
  return error.code;
}

describe("what it fetches", () => {
  test("bytes, declared type and final address; a fixed set of headers and nothing else", async () => {
    const host = await serve(answerWith("200 OK\r\ncontent-type: image/png", "picture"));
    const fetched = await fetchInput(`${host.url}/a%20b?c=d#part`, { allowHosts: ["127.0.0.1"] });
    expect(Buffer.from(fetched.bytes).toString()).toBe("picture");
    expect(fetched.contentType).toBe("image/png");
    expect(fetched.url).toBe(`${host.url}/a%20b?c=d#part`);
    const [head = ""] = host.requests;
    expect(head.split("\r\n")[0]).toBe("GET /a%20b?c=d HTTP/1.1");
    const names = head
      .split("\r\n")
      .slice(1, -2)
      .map((line) => line.split(":")[0]?.toLowerCase() ?? "");
    expect(names.sort()).toEqual(["accept", "accept-encoding", "connection", "host", "user-agent"]);
    await host.idle();
  });

  test("a chunked answer, and one that ends with its connection", async () => {
    const host = await serve((socket, path) => {
      const head = "HTTP/1.1 200 OK\r\n";
      socket.end(path === "/c" ? `${head}transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n` : `${head}\r\nabc`);
    });
    for (const path of ["/c", "/e"]) {
      const fetched = await fetchInput(host.url + path, { allowHosts: ["127.0.0.1"] });
      expect(Buffer.from(fetched.bytes).toString()).toBe("abc");
      expect(fetched.contentType).toBe("");
    }
  });

  test("follows three redirects, relative ones too, and not four", async () => {
    const host = await serve((socket, path) => {
      const left = Number(path.slice(1));
      answerWith(left > 0 ? `302 Found\r\nlocation: /${left - 1}` : "200 OK", "end")(socket);
    });
    const fetched = await fetchInput(`${host.url}/3`, { allowHosts: ["127.0.0.1"] });
    expect(fetched.url).toBe(`${host.url}/0`);
    expect(await codeOf(`${host.url}/4`)).toBe("fetch_status");
    await host.idle();
  });

  test("takes the next address when the first refuses the connection", async () => {
    const host = await serve(answerWith("200 OK", "second"));
    const resolve = async (): Promise<{ address: string; family: number }[]> => [
      { address: "127.0.0.99", family: 4 },
      { address: "127.0.0.1", family: 4 },
    ];
    const url = `http://pictures.example:${host.port}/`;
    const fetched = await fetchInput(url, { allowHosts: ["pictures.example"], resolve });
    expect(Buffer.from(fetched.bytes).toString()).toBe("second");
  });

  test("ignores the proxy of the environment", async () => {
    const proxy = await serve(answerWith("200 OK", "proxied"));
    const host = await serve(answerWith("200 OK", "direct"));
    const names = ["HTTP_PROXY", "http_proxy"];
    const before = names.map((name) => process.env[name]);
    for (const name of names) process.env[name] = proxy.url;
    try {
      const fetched = await fetchInput(host.url, { allowHosts: ["127.0.0.1"] });
      expect(Buffer.from(fetched.bytes).toString()).toBe("direct");
      expect(proxy.seen).toBe(0);
    } finally {
      for (const [i, name] of names.entries()) {
        if (before[i] === undefined) delete process.env[name];
        else process.env[name] = before[i];
      }
    }
  });

  test("https: the certificate is checked against the name and not the address", async () => {
    const host = await serve(answerWith("200 OK", "private talk"), { secure: true });
    const options = { allowHosts: ["pictures.example", "evil.example"], resolve: loopback, ca: CERT };
    const fetched = await fetchInput(`https://pictures.example:${host.port}/`, options);
    expect(Buffer.from(fetched.bytes).toString()).toBe("private talk");
    expect(await codeOf(`https://evil.example:${host.port}/`, options)).toBe("fetch_failed");
    const { ca: _, ...untrusting } = options;
    expect(await codeOf(`https://pictures.example:${host.port}/`, untrusting)).toBe("fetch_failed");
    expect(host.requests).toHaveLength(1);
  });
});

describe("where it does not go", () => {
  test("a private literal or a refused form opens no connection", async () => {
    const victim = await serve(answerWith("200 OK", "secret"));
    for (const host of ["127.0.0.1", "localhost", "0x7f.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]"]) {
      expect(await codeOf(`http://${host}:${victim.port}/`, { allowHosts: [] })).toBe("fetch_blocked");
    }
    expect(await codeOf("file:///etc/hostname", { allowHosts: [] })).toBe("fetch_blocked");
    expect(victim.seen).toBe(0);
  });

  test("one private address among public ones blocks the name", async () => {
    for (const address of ["10.0.0.1", "169.254.169.254", "::1", "fd00::1", "64:ff9b::7f00:1", "::ffff:127.0.0.1"]) {
      const resolve = async (): Promise<{ address: string; family: number }[]> => [
        { address: "93.184.216.34", family: 4 },
        { address, family: address.includes(":") ? 6 : 4 },
      ];
      expect(await codeOf("http://pictures.example/", { resolve })).toBe("fetch_blocked");
    }
  });

  test("a redirect to a private address is not followed", async () => {
    const victim = await serve(answerWith("200 OK", "secret"));
    const targets = [
      `http://localhost:${victim.port}/`,
      `http://[::1]:${victim.port}/`,
      `//127.0.0.2:${victim.port}/`,
      `http://user@127.0.0.1:${victim.port}/`,
      "http://169.254.169.254/latest/meta-data/",
      "file:///etc/hostname",
      "http://intranet/",
    ];
    const host = await serve((socket, path) => {
      answerWith(`302 Found\r\nlocation: ${targets[Number(path.slice(1))]}`)(socket);
    });
    for (const i of targets.keys()) {
      expect(await codeOf(`${host.url}/${i}`, { allowHosts: [`127.0.0.1:${host.port}`] })).toBe("fetch_blocked");
    }
    expect(host.seen).toBe(targets.length);
    expect(victim.seen).toBe(0);
    await host.idle();
  });

  // All of 127.0.0.0/8 is local on Linux only; a random address of it has port 8080, one of the web ports, free.
  test.skipIf(process.platform !== "linux")("a name that turns private between two hops is blocked", async () => {
    const address = `127.${[0, 0, 0].map(() => 2 + Math.floor(Math.random() * 250)).join(".")}`;
    const victim = await serve(answerWith("200 OK", "secret"), { address, port: 8080 });
    const host = await serve(answerWith("307 Temporary Redirect\r\nlocation: http://rebind.example:8080/"));
    const asked: string[] = [];
    const resolve = async (name: string): Promise<{ address: string; family: number }[]> => {
      asked.push(name);
      return [{ address: asked.length === 1 ? "127.0.0.1" : address, family: 4 }];
    };
    const options = { allowHosts: [`rebind.example:${host.port}`], resolve };
    expect(await codeOf(`http://rebind.example:${host.port}/`, options)).toBe("fetch_blocked");
    expect(asked).toHaveLength(2);
    expect(victim.seen).toBe(0);
    // The same listener is reached where the operator allows it: the zero above is not for want of a way.
    expect(await codeOf(`http://${address}:8080/`, { allowHosts: [address] }).catch(() => "reached")).toBe("reached");
    expect(victim.seen).toBe(1);
  });

  test("a name is asked for once a hop: what was checked is what is connected to", async () => {
    const host = await serve(answerWith("200 OK", "pinned"));
    const victim = await serve(answerWith("200 OK", "secret"), { address: "127.0.0.2", port: host.port });
    let asked = 0;
    const resolve = async (): Promise<{ address: string; family: number }[]> => [
      { address: asked++ === 0 ? "127.0.0.1" : "127.0.0.2", family: 4 },
    ];
    const url = `http://rebind.example:${host.port}/`;
    const fetched = await fetchInput(url, { allowHosts: ["rebind.example"], resolve });
    expect(Buffer.from(fetched.bytes).toString()).toBe("pinned");
    expect(asked).toBe(1);
    expect(victim.seen).toBe(0);
  });
});

describe("what it does not take", () => {
  test("an error status, an empty success, an encoded answer", async () => {
    const heads: Record<string, string> = {
      "/404": "404 Not Found",
      "/204": "204 No Content",
      "/206": "206 Partial Content",
      "/301": "301 Moved Permanently",
      "/loc": "302 Found\r\nlocation: http://[",
      "/gz": "200 OK\r\ncontent-encoding: gzip",
      "/br": "200 OK\r\ncontent-encoding: br",
    };
    const host = await serve((socket, path) => answerWith(heads[path] ?? "200 OK", "secret")(socket));
    for (const path of Object.keys(heads)) expect(await codeOf(host.url + path)).toBe("fetch_status");
    await host.idle();
  });

  test("429 and 5xx are worth another attempt", async () => {
    const host = await serve((socket, path) => answerWith(`${path.slice(1)} Busy`)(socket));
    for (const status of [429, 500, 503]) expect(await codeOf(`${host.url}/${status}`)).toBe("fetch_failed");
  });

  test("a declared length beyond the cap, before the content is read", async () => {
    const host = await serve((socket) => socket.write("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n"));
    expect(await codeOf(host.url)).toBe("fetch_too_large");
    await host.idle();
  });

  test("an endless body: cut at the cap, connection closed", async () => {
    const host = await serve((socket) => {
      socket.write("HTTP/1.1 200 OK\r\n\r\n");
      const pour = (): void => {
        while (!socket.destroyed && socket.write(Buffer.alloc(65_536)));
      };
      socket.on("drain", pour);
      pour();
    });
    expect(await codeOf(host.url, { sizeBytesMax: 1_000_000 })).toBe("fetch_too_large");
    await host.idle();
    expect(host.gone).toBe(1);
  });

  test("a body of exactly the cap is taken, one byte more is not", async () => {
    const host = await serve((socket) => socket.end("HTTP/1.1 200 OK\r\n\r\n12345"));
    const fetched = await fetchInput(host.url, { allowHosts: ["127.0.0.1"], sizeBytesMax: 5 });
    expect(fetched.bytes).toHaveLength(5);
    expect(await codeOf(host.url, { sizeBytesMax: 4 })).toBe("fetch_too_large");
  });

  test("a connection that breaks: refused, reset before or within the body, cut short, not HTTP", async () => {
    const host = await serve((socket, path) => {
      const head = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc";
      if (path === "/reset") socket.resetAndDestroy();
      else if (path === "/within") socket.write(head, () => socket.resetAndDestroy());
      else if (path === "/short") socket.end(head);
      else socket.end("SSH-2.0-OpenSSH_9.2 secret\r\n");
    });
    for (const path of ["/reset", "/within", "/short", "/ssh"]) {
      expect(await codeOf(host.url + path)).toBe("fetch_failed");
    }
    expect(await codeOf(`http://127.0.0.98:${host.port}/`, { allowHosts: ["127.0.0.98"] })).toBe("fetch_failed");
  });

  test("a name that does not resolve", async () => {
    const fail = async (): Promise<never> => Promise.reject(new Error("ENOTFOUND secret"));
    expect(await codeOf("http://pictures.example/", { resolve: fail })).toBe("fetch_failed");
    expect(await codeOf("http://pictures.example/", { resolve: async () => [] })).toBe("fetch_failed");
  });
});

describe("how long it waits", () => {
  test("for a resolver, a TLS handshake, a first byte, a whole body", async () => {
    const mute = await serve(() => {});
    const never = (): Promise<never> => new Promise(() => {});
    expect(await codeOf("http://pictures.example/", { resolve: never, connectMs: 20 })).toBe("fetch_timeout");
    const secure = mute.url.replace("http:", "https:");
    expect(await codeOf(secure, { connectMs: 50 })).toBe("fetch_timeout");
    expect(await codeOf(mute.url, { firstByteMs: 50 })).toBe("fetch_timeout");
    const drip = await serve((socket) => {
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n");
      const timer = setInterval(() => socket.write("."), 5);
      socket.once("close", () => clearInterval(timer));
    });
    expect(await codeOf(drip.url, { totalMs: 100 })).toBe("fetch_timeout");
    await Promise.all([mute.idle(), drip.idle()]);
  });

  test("the caller's abort ends it at once, with the caller's reason, before and during", async () => {
    const abort = new AbortController();
    const reason = new Error("cancelled");
    const host = await serve((socket) => {
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", () => abort.abort(reason));
    });
    const options = { allowHosts: ["127.0.0.1"], signal: abort.signal };
    const thrown = async (): Promise<unknown> => fetchInput(host.url, options).catch((error: unknown) => error);
    expect(await thrown()).toBe(reason);
    await host.idle();
    expect(await thrown()).toBe(reason);
    expect(host.seen).toBe(1);
  });
});

// A key pair for pictures.example, made for this file and used nowhere else; valid until 2126.
const KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgtYcCeacAssFdeX+0
alggYxYwXwr3fOO9x9lzn/sDz5uhRANCAATSHrr2WCQKR8CxCs5zDuJcZnwiXdJ6
8+g8R9iuuQS7MjWAKfE1MpfVsHG8GNXUIN+5rNOeGoAjJXbi2jS/QuNi
-----END PRIVATE KEY-----`;
const CERT = `-----BEGIN CERTIFICATE-----
MIIBqjCCAVCgAwIBAgIUCcR+1+Pem5OkldR/SnSvML6h2UUwCgYIKoZIzj0EAwIw
GzEZMBcGA1UEAwwQcGljdHVyZXMuZXhhbXBsZTAgFw0yNjExMjEwMTMzMjdaGA8y
MTI2MTAyODAxMzMyN1owGzEZMBcGA1UEAwwQcGljdHVyZXMuZXhhbXBsZTBZMBMG
ByqGSM49AgEGCCqGSM49AwEHA0IABNIeuvZYJApHwLEKznMO4lxmfCJd0nrz6DxH
2K65BLsyNYAp8TUyl9WwcbwY1dQg37ms054agCMlduLaNL9C42KjcDBuMB0GA1Ud
DgQWBBSs3bXhcynDFmltQ890t4baao5j+DAfBgNVHSMEGDAWgBSs3bXhcynDFmlt
Q890t4baao5j+DAPBgNVHRMBAf8EBTADAQH/MBsGA1UdEQQUMBKCEHBpY3R1cmVz
LmV4YW1wbGUwCgYIKoZIzj0EAwIDSAAwRQIhALklk4Eq7rrNnJqzX+AXaVrHkQWo
Ju7V33Eli+1CS0K0AiBdiT45Y/oaxirWa5SqBdyKfkUpZkRzu2zXVjo2hHxARg==
-----END CERTIFICATE-----`;
