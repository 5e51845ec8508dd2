// The headers around a result's bytes. The store is written by hand here because the point is what HTTP says of bytes
// that are given; the real stores have their own suite.
import { expect, test } from "bun:test";
import type { ByteRange } from "../blobs/blobs.ts";
import { AppError } from "../errors.ts";
import type { TaskResult } from "../tasks/tasks.ts";
import { knownTaskId, startFixture } from "./server-fixture.ts";

const bytes = new Uint8Array(100).map((_, i) => i);
const large = new Uint8Array(5 * 1024 * 1024).fill(7);
const sha256 = "ab".repeat(32);
const path = `/v1/tasks/${knownTaskId}/result`;

const blobOf = (content: Uint8Array, over: object = {}): TaskResult => ({
  kind: "blob",
  key: `results/${knownTaskId}-5f.png`,
  contentType: "image/png",
  sizeBytes: content.length,
  sha256,
  ...over,
});

const serving = (content: Uint8Array, result: TaskResult | null | (() => never), over: object = {}) =>
  startFixture({
    tasks: {
      result: async () => (typeof result === "function" ? result() : result),
      read: async () => ({ taskId: knownTaskId, status: "STARTED", terminal: false, json: '{"status":"STARTED"}' }),
    },
    blobs: {
      read: async () => content,
      get: async (_key: string, range?: ByteRange) =>
        new Response(content.slice(range?.start, range ? range.end + 1 : undefined)).body as ReadableStream<
          Uint8Array<ArrayBuffer>
        >,
      ...over,
    },
  });

test("bytes come as an attachment that no browser runs", async () => {
  await using server = await serving(bytes, blobOf(bytes));
  const response = await server.send(path);
  expect(response.status).toBe(200);
  expect(new Uint8Array(await response.arrayBuffer())).toEqual(bytes);
  expect(Object.fromEntries(response.headers)).toMatchObject({
    "content-type": "image/png",
    "content-length": "100",
    "content-disposition": `attachment; filename="${knownTaskId}.png"`,
    "content-security-policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "accept-ranges": "bytes",
    "cache-control": "private, no-cache",
    etag: `"${sha256}"`,
  });
});

test("a content type that could break a header is not repeated", async () => {
  await using server = await serving(
    bytes,
    blobOf(bytes, { contentType: "text/html\r\nset-cookie: a=b", key: "results/odd" }),
  );
  const response = await server.send(path);
  await response.body?.cancel();
  expect(response.headers.get("content-type")).toBe("application/octet-stream");
  expect(response.headers.get("set-cookie")).toBeNull();
  expect(response.headers.get("content-disposition")).toBe(`attachment; filename="${knownTaskId}"`);
});

test("one range is a part, one beyond the end is 416", async () => {
  await using server = await serving(bytes, blobOf(bytes));
  const part = await server.send(path, { headers: { range: "bytes=10-19" } });
  expect([part.status, part.headers.get("content-range"), part.headers.get("content-length")]).toEqual([
    206,
    "bytes 10-19/100",
    "10",
  ]);
  expect(new Uint8Array(await part.arrayBuffer())).toEqual(bytes.slice(10, 20));
  const beyond = await server.send(path, { headers: { range: "bytes=100-" } });
  expect([beyond.status, beyond.headers.get("content-range")]).toEqual([416, "bytes */100"]);
});

test("HEAD tells the size and reads nothing", async () => {
  const unread = (): never => {
    throw new Error("read");
  };
  await using server = await serving(bytes, blobOf(bytes), { read: unread, get: unread });
  const response = await server.send(path, { method: "HEAD" });
  expect([response.status, response.headers.get("content-length")]).toEqual([200, "100"]);
});

test("a copy that the client holds is not sent again", async () => {
  await using server = await serving(bytes, blobOf(bytes));
  for (const tag of [`"${sha256}"`, `W/"${sha256}"`, `"x", "${sha256}"`, "*"]) {
    expect((await server.send(path, { headers: { "if-none-match": tag } })).status).toBe(304);
  }
  expect((await server.send(path, { headers: { "if-none-match": '"x"' } })).status).toBe(200);
});

test("a large object is streamed whole", async () => {
  await using server = await serving(large, blobOf(large));
  const response = await server.send(path);
  expect((await response.arrayBuffer()).byteLength).toBe(large.length);
});

test("JSON comes as it is stored", async () => {
  await using server = await serving(bytes, { kind: "json", json: '{"words": 3}' });
  const response = await server.send(path);
  expect([response.status, response.headers.get("content-type")]).toEqual([200, "application/json"]);
  expect(await response.text()).toBe('{"words": 3}');
});

test("an unfinished task is 202, one that ended otherwise 404", async () => {
  await using waiting = await serving(bytes, null);
  const early = await waiting.send(path);
  expect([early.status, early.headers.get("retry-after")]).toEqual([202, "1"]);
  expect(await early.json()).toEqual({ status: "STARTED" });
  await using failed = await serving(bytes, () => {
    throw new AppError("no_result", "The task failed.");
  });
  const none = await failed.send(path);
  expect([none.status, (await none.json()) as object]).toEqual([404, expect.objectContaining({ code: "no_result" })]);
});

test("an object that is gone or damaged is our failure, not the client's", async () => {
  for (const code of ["blob_not_found", "blob_corrupt", "payload_too_large"] as const) {
    const failing = (): Promise<never> => Promise.reject(new AppError(code, "There is no object results/x"));
    await using server = await serving(bytes, blobOf(bytes), { read: failing, get: failing });
    const response = await server.send(path);
    const text = await response.text();
    expect([code, response.status]).toEqual([code, 500]);
    expect(text).not.toContain("results/");
  }
});
