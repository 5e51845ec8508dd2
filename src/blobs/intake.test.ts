import { expect, test } from "bun:test";
import { getEventListeners } from "node:events";
import { codeOf } from "./conformance.ts";
import { chunksOf, within } from "./intake.ts";

test("a stream that pauses beyond the deadline is request_timeout and is cancelled", async () => {
  const cancelled = Promise.withResolvers<void>();
  const stalled = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(new Uint8Array(3)),
    cancel: () => cancelled.resolve(),
  });
  const chunks = chunksOf(stalled, { contentType: "a/b" }, { sizeBytesMax: 100, deadlineMs: 5 });
  expect((await chunks.next()).value).toHaveLength(3);
  expect(await codeOf(chunks.next())).toBe("request_timeout");
  await cancelled.promise;
});

test("a source that never ends its cancel does not hold up the failure", async () => {
  const deaf = new ReadableStream<Uint8Array>({ cancel: () => new Promise(() => {}) });
  const chunks = chunksOf(deaf, { contentType: "a/b" }, { sizeBytesMax: 100, deadlineMs: 5 });
  expect(await codeOf(chunks.next())).toBe("request_timeout");
});

test("within leaves no listener behind, and a signal that had aborted before counts", async () => {
  const abort = new AbortController();
  const late = () => new Error("late");
  for (let i = 0; i < 20; i++) await within(Promise.resolve(i), 1_000, late, abort.signal);
  expect(getEventListeners(abort.signal, "abort")).toHaveLength(0);
  abort.abort(new Error("gone"));
  await expect(within(new Promise(() => {}), 1_000, late, abort.signal)).rejects.toThrow("gone");
  await expect(within(new Promise(() => {}), 1, late)).rejects.toThrow("late");
});
