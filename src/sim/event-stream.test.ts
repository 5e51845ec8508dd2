import { expect, test } from "bun:test";
import { createEventStream } from "./event-stream.ts";

test("who cancels it is heard, once, and nothing is sent any more", async () => {
  let left = 0;
  const stream = createEventStream({ onReady() {}, onLeft: () => void left++ });
  stream.send("1");
  await stream.body.cancel();
  expect([left, stream.ready()]).toEqual([1, false]);
  stream.send("2");
  stream.finish(true);
  expect(left).toBe(1);
});

test("it says when the client has not read, and when it has", async () => {
  let pulls = 0;
  const stream = createEventStream({ onReady: () => void pulls++, onLeft() {} });
  let sent = 0;
  while (stream.ready()) stream.send(`${sent++}`);
  expect(sent).toBe(64);
  const before = pulls;
  const reader = stream.body.getReader();
  expect(Buffer.from((await reader.read()).value ?? []).toString()).toBe("data: 0\n\n");
  expect(stream.ready()).toBe(true);
  expect(pulls).toBeGreaterThan(before);
  stream.finish(true);
  let last = "";
  for (let next = await reader.read(); !next.done; next = await reader.read())
    last = Buffer.from(next.value).toString();
  expect(last).toBe("data: [DONE]\n\n");
});

test("who waits for the first event is sent a comment", async () => {
  const stream = createEventStream({ onReady() {}, onLeft() {} });
  const { value } = await stream.body.getReader().read();
  expect(Buffer.from(value ?? []).toString()).toBe(":\n\n");
  stream.finish(true);
});
