import { expect, test } from "bun:test";
import { createHolds } from "./holds.ts";

const requestOf = (signal?: AbortSignal): Request => new Request("http://localhost/", signal ? { signal } : {});

test("a hold keeps its socket open and ends with its client", () => {
  const kept: Request[] = [];
  const holds = createHolds((request) => kept.push(request));
  const client = new AbortController();
  const request = requestOf(client.signal);
  const hold = holds.open(request);
  expect(kept).toEqual([request]);
  expect(hold.signal.aborted).toBe(false);
  client.abort();
  expect(hold.signal.aborted).toBe(true);
  hold.release();
  hold.release();
  expect(holds.count()).toBe(0);
});

test("who has left, or comes after the stop, waits for nothing", () => {
  const holds = createHolds(() => {});
  expect(holds.open(requestOf(AbortSignal.abort())).signal.aborted).toBe(true);
  const open = holds.open(requestOf());
  holds.stop();
  expect(open.signal.aborted).toBe(true);
  expect(holds.open(requestOf()).signal.aborted).toBe(true);
});

test("a released hold hears no more of its client", () => {
  const client = new AbortController();
  const hold = createHolds(() => {}).open(requestOf(client.signal));
  hold.release();
  client.abort();
  expect(hold.signal.aborted).toBe(false);
});

test("there is room for ten thousand, and room again when one goes", () => {
  const holds = createHolds(() => {});
  const open = Array.from({ length: 10_000 }, () => holds.open(requestOf()));
  expect(() => holds.open(requestOf())).toThrow("Too many");
  open[0]?.release();
  expect(holds.open(requestOf()).signal.aborted).toBe(false);
});
