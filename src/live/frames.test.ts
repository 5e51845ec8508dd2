import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  encodeLine,
  encodeToActor,
  encodeToGateway,
  gatewayTags,
  type OpenFrame,
  parseCounted,
  parseFailed,
  parseHead,
  parseToActor,
  parseToGateway,
  type ToGateway,
} from "./frames.ts";

const open: OpenFrame = {
  tag: "open",
  call: 1,
  reply: "_INBOX.abc",
  provider: "p",
  endpoint: "chat/completions",
  contentType: "application/json",
  bodyBytes: 3,
  stream: true,
  streamUsage: false,
  requestId: "r",
  promptEstimate: 4,
  timeMs: 5,
  window: 6,
};

test("frames to a gateway come out as they went in, any number in one message", () => {
  const frame = fc.record({
    tag: fc.constantFrom(...gatewayTags),
    call: fc.nat(),
    number: fc.nat(),
    tokens: fc.nat(1_000),
    bytes: fc.uint8Array({ maxLength: 200 }),
  });
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 20 }), (frames) => {
      const encoded = frames.map(({ tag, call, number, tokens, bytes }) => ({
        line: encodeLine(tag, call, number, tokens, bytes.length),
        bytes,
      }));
      const size = encoded.reduce((sum, { line, bytes }) => sum + line.length + bytes.length, 0);
      const taken: ToGateway[] = [];
      expect(parseToGateway(encodeToGateway(encoded, size), (one) => taken.push(one))).toBeTrue();
      expect(taken.map((one) => ({ ...one, bytes: new Uint8Array(one.bytes) }))).toEqual(frames);
    }),
  );
});

test.each([
  "",
  "2\n",
  "1\ndata 1 0 0 5\nabc",
  "1\nother 1 0 0 0\n",
  "1\ndata 1 0 0\n",
  "1\ndata 1 0 -1 0\n",
  "1\ndata x 0 0 0\n",
  "1\ndata 1 0 0 0",
  "1\ndata  1 0 0 0\n",
  "1\ndata 1 0  0\n",
  "1\ndatum 1 0 0 0\n",
  "1\ndata 1 0 0 1e0\na",
  "1\ndata 1 0 0 0000000000000000\n",
  "1 data 1 0 0 0\n",
])("a message of another form is refused: %j", (text) => {
  expect(parseToGateway(Buffer.from(text), () => {})).toBeFalse();
});

test("an open comes out as it went in, with its bytes", () => {
  const parsed = parseToActor(encodeToActor(open, Buffer.from("a\nb")));
  expect(parsed?.frame).toMatchObject(open);
  expect(Buffer.from(parsed?.bytes ?? []).toString()).toBe("a\nb");
});

test.each([
  ["another version", { ...open, v: 2 }],
  ["no inbox to answer to", { ...open, v: 1, reply: "millrace.jobs.0" }],
  ["another endpoint", { ...open, v: 1, endpoint: "../admin" }],
  ["too large a body", { ...open, v: 1, bodyBytes: 33 * 1024 * 1024 }],
  ["another tag", { ...open, v: 1, tag: "close" }],
  ["no number", { v: 1, tag: "credit", call: 1, reply: "_INBOX.abc", bytes: "7" }],
])("an actor takes no frame with %s", (_, value) => {
  expect(parseToActor(Buffer.from(`${JSON.stringify(value)}\nxyz`))).toBeNull();
});

test("what is said of an answer is checked", () => {
  const json = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));
  const counted = { promptTokens: 1, completionTokens: 2, cachedTokens: 0 };
  const failed = {
    ...counted,
    outcome: "failed",
    blamed: "server",
    code: "upstream_failed",
    message: "m",
    retryAfterS: 1,
  };
  expect(parseHead(json({ status: 200, contentType: "text/plain" }))?.status).toBe(200);
  expect(parseHead(json({ status: 700, contentType: "text/plain" }))).toBeNull();
  expect(parseCounted(json(counted))?.completionTokens).toBe(2);
  expect(parseCounted(json({ ...counted, cachedTokens: -1 }))).toBeNull();
  expect(parseFailed(json(failed))?.code).toBe("upstream_failed");
  expect(parseFailed(json({ ...failed, code: "internal" }))).toBeNull();
  expect(parseFailed(Buffer.from("{"))).toBeNull();
});
