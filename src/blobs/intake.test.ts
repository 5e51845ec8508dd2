import { expect, test } from "bun:test";
import { codeOf } from "./conformance.ts";
import { chunksOf } from "./intake.ts";

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
