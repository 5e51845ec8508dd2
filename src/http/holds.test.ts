import { expect, test } from "bun:test";
import { createHolds } from "./holds.ts";

const requestOf = (signal?: AbortSignal): Request => new Request("http://localhost/", signal ? { signal } : {});
const callOf = (request = requestOf(), keyId = "alice") => ({ request, owner: { keyId } });

test("a hold keeps its socket open and ends with its client", () => {
  const kept: [Request, boolean][] = [];
  const holds = createHolds((request, isKept) => kept.push([request, isKept]));
  const client = new AbortController();
  const request = requestOf(client.signal);
  const hold = holds.open(callOf(request));
  expect(kept).toEqual([[request, true]]);
  expect(hold.signal.aborted).toBe(false);
  client.abort();
  expect(hold.signal.aborted).toBe(true);
  hold.release();
  hold.release();
  expect(holds.count()).toBe(0);
  // Once: the socket may serve another request by then.
  expect(kept).toEqual([
    [request, true],
    [request, false],
  ]);
});

test("who has left, or comes after the stop, waits for nothing", () => {
  const holds = createHolds(() => {});
  expect(holds.open(callOf(requestOf(AbortSignal.abort()))).signal.aborted).toBe(true);
  const open = holds.open(callOf());
  holds.stop(0);
  expect(open.signal.aborted).toBe(true);
  expect(holds.open(callOf()).signal.aborted).toBe(true);
});

test("a call of a model is let finish when the gateway stops, and ended at the end of the grace", async () => {
  const holds = createHolds(() => {});
  const [stream, call] = [holds.open(callOf(), "stream"), holds.open(callOf(), "call")];
  const cutOff = new Promise((resolve) => call.signal.addEventListener("abort", resolve));
  holds.stop(20);
  expect([stream.signal.aborted, call.signal.aborted]).toEqual([true, false]);
  await cutOff;
});

test("a released hold hears no more of its client", () => {
  const client = new AbortController();
  const hold = createHolds(() => {}).open(callOf(requestOf(client.signal)));
  hold.release();
  client.abort();
  expect(hold.signal.aborted).toBe(false);
});

test("there is room for ten thousand, half of it for one key, and room again when one goes", () => {
  const holds = createHolds(() => {});
  const many = (keyId: string) => Array.from({ length: 5_000 }, () => holds.open(callOf(requestOf(), keyId)));
  const [first] = many("alice");
  expect(() => holds.open(callOf())).toThrow("Too many");
  many("bob");
  expect(() => holds.open(callOf(requestOf(), "carol"))).toThrow("Too many");
  first?.release();
  first?.release();
  expect(holds.open(callOf()).signal.aborted).toBe(false);
  expect(() => holds.open(callOf())).toThrow("Too many");
});
