import { expect, test } from "bun:test";
import fc from "fast-check";
import { asAppError } from "../errors.ts";
import { bodyBytesMax, parseJson, readJson } from "./body.ts";
import { createBodyRoom } from "./body-room.ts";

const codeOf = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    return asAppError(error)?.code ?? String(error);
  }
  return "none";
};

const post = (body: string | Uint8Array<ArrayBuffer> | ReadableStream, headers: Record<string, string> = {}): Request =>
  new Request("http://localhost/", {
    method: "POST",
    body,
    headers: { "content-type": "application/json", ...headers },
  });

const callOf = (request: Request, room = createBodyRoom(), keyId = "alice") => ({
  request,
  room,
  owner: { keyId },
});

const codeOfRead = async (request: Request, timeoutMs?: number): Promise<string> => {
  try {
    await readJson(callOf(request), timeoutMs);
  } catch (error) {
    return asAppError(error)?.code ?? String(error);
  }
  return "none";
};

/** A stream that gives these chunks and then, when `open`, nothing more. */
const chunked = (chunks: readonly Uint8Array[], open = false): ReadableStream<Uint8Array> => {
  const rest = [...chunks];
  return new ReadableStream({
    pull(controller) {
      const chunk = rest.shift();
      if (chunk) controller.enqueue(chunk);
      else if (open) return Promise.withResolvers<void>().promise;
      else controller.close();
    },
  });
};

test("any JSON within the limits is read as JSON.parse reads it", () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 8, noUnicodeString: false }), (text) => {
      fc.pre(!/__proto__|constructor/.test(text));
      expect(parseJson(text)).toEqual(JSON.parse(text));
    }),
  );
});

test("no text makes the reader throw anything but a problem", () => {
  const pieces = fc.constantFrom("{", "}", "[", "]", '"', "\\", ":", ",", "1", "e9", "null", " ", "'", "/*", "é");
  fc.assert(
    fc.property(fc.array(pieces, { maxLength: 60 }), (parts) => {
      expect(["none", "invalid_json", "invalid_request"]).toContain(codeOf(() => parseJson(parts.join(""))));
    }),
    { numRuns: 2_000 },
  );
});

test.each([
  ["truncated", '{"model":', "invalid_json"],
  ["empty", "", "invalid_json"],
  ["NaN", '{"a":NaN}', "invalid_json"],
  ["single quotes", "{'a':1}", "invalid_json"],
  ["64 levels", `${"[".repeat(64)}${"]".repeat(64)}`, "none"],
  ["65 levels", `${"[".repeat(65)}${"]".repeat(65)}`, "invalid_json"],
  ["a hundred thousand levels", "[".repeat(100_000), "invalid_json"],
  ["brackets in strings", JSON.stringify({ a: "[".repeat(1_000) }), "none"],
  ["quotes behind backslashes", JSON.stringify({ a: `"${"[".repeat(65)}`, b: "\\", c: '\\"[' }), "none"],
  ["10,000 keys", `{${Array.from({ length: 10_000 }, (_, i) => `"k${i}":0`).join()}}`, "none"],
  ["10,001 keys", `{${Array.from({ length: 10_001 }, (_, i) => `"k${i}":0`).join()}}`, "invalid_request"],
  ["110,000 commas", `[${"1,".repeat(110_000)}1]`, "none"],
  ["110,001 commas", `[${"1,".repeat(110_001)}1]`, "invalid_request"],
  ["commas in strings", JSON.stringify({ a: ",".repeat(120_000) }), "none"],
  ["__proto__", '{"a":{"__proto__":{}}}', "invalid_request"],
  ["an escaped __proto__", '{"\\u005f_proto__":1}', "invalid_request"],
  ["constructor", '[{"constructor":{}}]', "invalid_request"],
  ["a value called constructor", '["constructor"]', "none"],
  ["infinity", '{"a":[1e400]}', "invalid_request"],
  ["a duplicate key", '{"a":1,"a":2}', "none"],
])("%s", (_name, text, code) => {
  expect(codeOf(() => parseJson(text))).toBe(code);
});

test("a problem names the field and not the value", () => {
  try {
    parseJson('{"a/b":{"~c":[0,1e999]},"secret":"hunter2"}');
    expect.unreachable();
  } catch (error) {
    expect(asAppError(error)?.fields).toEqual([{ path: "/a~1b/~0c/1", message: "is beyond the range of a double" }]);
  }
});

test("of duplicate keys the last wins", () => {
  expect(parseJson('{"a":1,"a":2}')).toEqual({ a: 2 });
});

test.each([
  ["application/json", "none"],
  ["Application/JSON; charset=UTF-8", "none"],
  ['application/json;charset="utf-8"', "none"],
  ["application/json; charset=utf-16", "unsupported_media_type"],
  ["application/jsonp", "unsupported_media_type"],
  ["application/x-www-form-urlencoded", "unsupported_media_type"],
  ["text/plain", "unsupported_media_type"],
  ["multipart/form-data; boundary=x", "unsupported_media_type"],
])("content-type %s: %s", async (type, code) => {
  expect(await codeOfRead(post("{}", { "content-type": type }))).toBe(code);
});

test("a long media type is not matched, which would take the square of its length", async () => {
  const startMs = performance.now();
  const type = `application/json${" ".repeat(60_000)}x`;
  expect(await codeOfRead(post("{}", { "content-type": type }))).toBe("unsupported_media_type");
  expect(performance.now() - startMs).toBeLessThan(1_000);
});

test("a form, which curl -d sends, is told what to send instead", async () => {
  await expect(readJson(callOf(post("{}", { "content-type": "application/x-www-form-urlencoded" })))).rejects.toThrow(
    "--json",
  );
});

test("compressed bodies are refused, identity is not", async () => {
  expect(await codeOfRead(post("{}", { "content-encoding": "gzip" }))).toBe("unsupported_media_type");
  expect(await codeOfRead(post("{}", { "content-encoding": "identity" }))).toBe("none");
});

test("bad UTF-8 is refused and not repaired", async () => {
  const bytes = Uint8Array.from([0x22, 0xff, 0xfe, 0x22]);
  expect(await codeOfRead(post(bytes))).toBe("invalid_json");
});

test("a declared size above the limit is refused unread", async () => {
  const request = post(chunked([], true), { "content-length": String(bodyBytesMax + 1) });
  expect(await codeOfRead(request)).toBe("payload_too_large");
});

test("an undeclared size is counted while it arrives", async () => {
  const mebibyte = new Uint8Array(1_048_576).fill(0x20);
  const fits = [...Array.from({ length: 15 }, () => mebibyte), new TextEncoder().encode("{}")];
  expect(await codeOfRead(post(chunked(fits)))).toBe("none");
  const tooMuch = Array.from({ length: 17 }, () => mebibyte);
  expect(await codeOfRead(post(chunked(tooMuch, true)))).toBe("payload_too_large");
});

test("a body that stops arriving is given up", async () => {
  expect(await codeOfRead(post(chunked([new Uint8Array([0x7b])], true)), 5)).toBe("request_timeout");
});

test("large bodies of a key that do not end leave room to the others, and give theirs back when they end", async () => {
  const room = createBodyRoom();
  const end = new AbortController();
  const unending = (): ReadableStream<Uint8Array> =>
    new ReadableStream({
      start(controller) {
        controller.enqueue(new Uint8Array(1_048_576).fill(0x20));
        end.signal.addEventListener("abort", () => controller.error(new Error("the client left")));
      },
    });
  const declared = { "content-length": String(bodyBytesMax) };
  const read = async (keyId: string, body: string | ReadableStream, headers = {}, timeoutMs = 5_000): Promise<string> =>
    readJson(callOf(post(body, headers), room, keyId), timeoutMs).then(
      () => "none",
      (error: unknown) => asAppError(error)?.code ?? "client left",
    );
  // Late ones count on: what they send is still read.
  const late = await Promise.all(Array.from({ length: 8 }, () => read("alice", unending(), declared, 1)));
  expect(new Set(late)).toEqual(new Set(["request_timeout"]));
  const waiting = Array.from({ length: 8 }, () => read("alice", unending(), declared));
  expect(await read("alice", unending(), declared)).toBe("not_ready");
  expect(await read("alice", "{}".padEnd(100_000))).toBe("not_ready");
  expect(await read("alice", "{}", { "content-length": "2" })).toBe("none");
  expect(await read("bob", "{}".padEnd(100_000))).toBe("none");
  end.abort();
  expect(new Set(await Promise.all(waiting))).toEqual(new Set(["client left"]));
  expect(await read("alice", "{}".padEnd(100_000))).toBe("none");
});
