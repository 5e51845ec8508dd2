import { expect, test } from "bun:test";
import { ResponseReader } from "./response-reader.ts";

interface Read {
  readonly status: number | undefined;
  readonly body: string;
  readonly ended: boolean;
  readonly keepAlive: boolean;
}

/** `text` in pieces, each cut where `cuts` says. */
function readIn(text: string, cuts: readonly number[] = []): Read {
  const bytes = Buffer.from(text, "latin1");
  const reader = new ResponseReader();
  let body = "";
  let from = 0;
  for (const to of [...cuts, bytes.length]) {
    reader.push(bytes.subarray(from, to), (piece) => {
      body += Buffer.from(piece).toString("latin1");
    });
    from = to;
  }
  return { status: reader.head?.status, body, ended: reader.ended, keepAlive: reader.keepAlive };
}

const CHUNKED = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const good: Readonly<Record<string, readonly [text: string, expected: Omit<Read, "ended">]>> = {
  "a body of a known length": [
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    { status: 200, body: "hello", keepAlive: true },
  ],
  "no body": ["HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", { status: 404, body: "", keepAlive: true }],
  "204, whatever its headers say": [
    "HTTP/1.1 204 No Content\r\ncontent-length: 9\r\n\r\n",
    { status: 204, body: "", keepAlive: true },
  ],
  chunks: [
    `${CHUNKED}5\r\nhello\r\n6;a=b\r\n world\r\n0\r\n\r\n`,
    { status: 200, body: "hello world", keepAlive: true },
  ],
  "chunks with CRLF in them": [
    `${CHUNKED}4\r\n\r\n\r\n\r\n0\r\n\r\n`,
    { status: 200, body: "\r\n\r\n", keepAlive: true },
  ],
  "a chunk size in capitals, with zeros and a space": [
    `${CHUNKED}00A \r\n0123456789\r\n0\r\n\r\n`,
    { status: 200, body: "0123456789", keepAlive: true },
  ],
  trailers: [`${CHUNKED}1\r\nx\r\n0\r\nDigest: y\r\nB: z\r\n\r\n`, { status: 200, body: "x", keepAlive: true }],
  "an interim response before it": [
    "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
    { status: 200, body: "x", keepAlive: true },
  ],
  "connection: close": [
    "HTTP/1.1 200 OK\r\nconnection: Close\r\ncontent-length: 1\r\n\r\nx",
    { status: 200, body: "x", keepAlive: false },
  ],
  "HTTP/1.0": ["HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\nx", { status: 200, body: "x", keepAlive: false }],
  "both framings: chunked counts, and the connection is not trusted": [
    "HTTP/1.1 200 OK\r\ncontent-length: 99\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    { status: 200, body: "x", keepAlive: false },
  ],
  "bytes after the end: the connection is not trusted": [
    "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nxHTTP/1.1 500 No\r\n\r\n",
    { status: 200, body: "x", keepAlive: false },
  ],
};

for (const [name, [text, expected]] of Object.entries(good)) {
  test(`reads ${name}, wherever it is cut`, () => {
    expect(readIn(text)).toEqual({ ...expected, ended: true });
    for (let cut = 1; cut < text.length; cut++) {
      const read = readIn(text, [cut]);
      // Bytes after the end that come later are the connection's affair.
      expect({ ...read, keepAlive: expected.keepAlive }).toEqual({ ...expected, ended: true });
    }
    const each = Array.from({ length: text.length - 1 }, (_, i) => i + 1);
    expect(readIn(text, each)).toMatchObject({ status: expected.status, body: expected.body, ended: true });
  });
}

test("a body without a length ends with its connection", () => {
  const reader = new ResponseReader();
  const pieces: string[] = [];
  for (const part of ["HTTP/1.1 200 OK\r\n\r\nfirst", "second"]) {
    reader.push(Buffer.from(part), (piece) => void pieces.push(Buffer.from(piece).toString()));
  }
  expect([pieces, reader.ended]).toEqual([["first", "second"], false]);
  reader.close();
  expect([reader.ended, reader.keepAlive]).toEqual([true, false]);
});

const cutOff = [
  "",
  "HTTP/1.1 200 OK\r\ncontent-le",
  "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell",
  `${CHUNKED}5\r\nhel`,
  `${CHUNKED}5\r\nhello\r\n`,
  `${CHUNKED}5\r\nhello\r\n0\r\n`,
];
test.each(cutOff)("a connection that closes too early is an error: %j", (text) => {
  const reader = new ResponseReader();
  reader.push(Buffer.from(text), () => {});
  expect(() => reader.close()).toThrow("closed within a response");
});

const HEAD = "HTTP/1.1 200 OK\r\n";
const bad: Readonly<Record<string, string>> = {
  "no HTTP": "SSH-2.0-OpenSSH_9.2\r\n\r\n",
  "another version": "HTTP/2 200\r\n\r\n",
  "no status": "HTTP/1.1 OK\r\n\r\n",
  "a status of four digits": "HTTP/1.1 2000 OK\r\n\r\n",
  "101 that nobody asked for": "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n",
  "interim responses without end": "HTTP/1.1 102 Processing\r\n\r\n".repeat(9),
  "a header without a colon": `${HEAD}nonsense\r\n\r\n`,
  "a folded header": `${HEAD}a: b\r\n c\r\n\r\n`,
  "a space before the colon": `${HEAD}content-length : 5\r\n\r\n`,
  "a negative length": `${HEAD}content-length: -1\r\n\r\n`,
  "two lengths": `${HEAD}content-length: 1\r\ncontent-length: 2\r\n\r\n`,
  "an encoding that was not asked for": `${HEAD}content-encoding: gzip\r\ncontent-length: 1\r\n\r\nx`,
  "an unknown coding": `${HEAD}transfer-encoding: gzip, chunked\r\n\r\n`,
  "a chunk size that is none": `${CHUNKED}five\r\nhello\r\n`,
  "a negative chunk size": `${CHUNKED}-5\r\nhello\r\n`,
  "a hex prefix": `${CHUNKED}0x5\r\nhello\r\n`,
  "too large a chunk size": `${CHUNKED}fffffffffffff\r\n`,
  "a chunk size that ends with LF alone": `${CHUNKED}5\nhello\r\n`,
  "a chunk longer than its size": `${CHUNKED}4\r\nhello\r\n0\r\n\r\n`,
  "a chunk size without an end": `${CHUNKED}${"0".repeat(5_000)}`,
  "trailers without end": `${CHUNKED}0\r\n${"a: b\r\n".repeat(65)}`,
  "a head without an end": `${HEAD}${"a: b\r\n".repeat(20_000)}`,
};

for (const [name, text] of Object.entries(bad)) {
  test(`refuses ${name}, wherever it is cut`, () => {
    expect(() => readIn(text)).toThrow();
    for (const cut of [1, 9, 17, Math.floor(text.length / 2), text.length - 1]) {
      expect(() => readIn(text, [cut])).toThrow();
    }
  });
}

test("what is said of a bad header quotes none of it", () => {
  for (const line of ["Bearer sk-0123456789: x", "x: Bearer sk-0123456789\ry", "Bearer sk-0123456789"]) {
    expect(() => readIn(`${HEAD}${line}\r\n\r\n`)).toThrow(/^a bad header$/);
  }
});

test("chunks that come together are handed on together, and those before a bad one are", () => {
  for (const end of ["0\r\n\r\n", "none\r\n"]) {
    const reader = new ResponseReader();
    const pieces: string[] = [];
    const push = (): void => {
      const bytes = Buffer.from(`${CHUNKED}${"1\r\na\r\n3;x=y\r\nbcd\r\n".repeat(100)}${end}`);
      reader.push(bytes, (piece) => void pieces.push(Buffer.from(piece).toString()));
    };
    if (end === "none\r\n") expect(push).toThrow("a bad chunk size");
    else push();
    expect(pieces).toEqual(["abcd".repeat(100)]);
  }
});
