import { describe, expect, test } from "bun:test";
import { codeOf } from "../../tests/code-of.ts";
import { TryFailure } from "../llm/try.ts";
import type { GatewayTag } from "./frames.ts";
import { RemoteCall } from "./remote-call.ts";

const WINDOW = 1_000;

function start() {
  const told = { credit: [] as number[], taken: 0, over: [] as boolean[] };
  const leaving = new AbortController();
  const call = new RemoteCall({
    actorId: "a",
    signal: leaving.signal,
    promptEstimate: 9,
    window: WINDOW,
    onTaken: () => void told.taken++,
    giveCredit: (bytes) => void told.credit.push(bytes),
    onOver: (early) => void told.over.push(early),
  });
  call.opened.catch(() => {});
  let number = 0;
  const frame = (tag: GatewayTag, value: object | string = "", tokens = 0, at = number++): void => {
    const bytes = Buffer.from(typeof value === "string" ? value : JSON.stringify(value));
    call.take({ tag, call: 1, number: at, tokens, bytes });
  };
  const head = (): void => frame("head", { status: 200, contentType: "text/event-stream" });
  return { call, told, leaving, frame, head };
}

const text = async (read: Promise<Uint8Array | null>): Promise<string | null> => {
  const bytes = await read;
  return bytes && Buffer.from(bytes).toString();
};
const failureOf = (call: Promise<unknown>): Promise<unknown> =>
  call.then(
    () => null,
    (error: unknown) => error,
  );
const counted = { promptTokens: 5, completionTokens: 7, cachedTokens: 1 };

describe("an answer", () => {
  test("is what was sent, in order; what waits comes as one piece; then its end and its count", async () => {
    const { call, told, frame, head } = start();
    head();
    expect(await call.opened).toBe(call);
    const first = call.read();
    frame("data", "a", 1);
    frame("data", "b", 1);
    frame("data", "c", 1);
    expect([await text(first), await text(call.read())]).toEqual(["a", "bc"]);
    expect(call.usage()).toEqual({ promptTokens: 9, completionTokens: 3, cachedTokens: 0 });
    frame("end", counted);
    expect([await call.read(), call.usage(), told.over]).toEqual([null, counted, [false]]);
  });
  test("a large event is put together again", async () => {
    const { call, frame, head } = start();
    head();
    frame("piece", "ab");
    frame("piece", "cd");
    frame("data", "e");
    expect(await text(call.read())).toBe("abcde");
  });
  test("credit is given back as it is read, by halves of the window, and never before", async () => {
    const { call, told, frame, head } = start();
    head();
    for (let i = 0; i < 4; i++) frame("data", "x".repeat(WINDOW / 4));
    expect(told.credit).toEqual([]);
    await call.read();
    expect(told.credit).toEqual([WINDOW]);
  });
});

describe("what goes wrong", () => {
  test.each([
    ["a frame that is missing", 3],
    ["a frame that comes twice", 1],
  ])("%s ends it, and the actor is told", async (_, at) => {
    const { call, told, frame, head } = start();
    head();
    frame("data", "a");
    frame("data", "b", 0, at);
    expect(await text(call.read())).toBe("a");
    expect([await codeOf(call.read()), told.over]).toEqual(["upstream_failed", [true]]);
    frame("data", "c");
    expect(await codeOf(call.read())).toBe("upstream_failed");
  });
  test("a failure before the head may be tried elsewhere, and says by whose fault", async () => {
    const { call, frame, told } = start();
    const failed = {
      outcome: "overloaded",
      blamed: "actor",
      code: "model_overloaded",
      message: "full",
      retryAfterS: 3,
    };
    frame("failed", { ...counted, ...failed });
    const failure = await failureOf(call.opened);
    expect(failure).toBeInstanceOf(TryFailure);
    expect(failure).toMatchObject({ outcome: "overloaded", blamed: "actor", error: { retryAfterS: 3 } });
    expect(told.over).toEqual([false]);
  });
  test("a failure after it comes behind what was sent, and is counted", async () => {
    const { call, frame, head } = start();
    head();
    frame("data", "a", 1);
    const failed = { outcome: "failed", blamed: "server", code: "upstream_timeout", message: "slow", retryAfterS: 1 };
    frame("failed", { ...counted, ...failed });
    expect([await text(call.read()), await codeOf(call.read())]).toEqual(["a", "upstream_timeout"]);
    expect(call.usage()).toEqual(counted);
  });
  test.each([
    ["a head that is none", "head", "{}"],
    ["an end before the head", "end", JSON.stringify(counted)],
    ["a failure without a code", "failed", "{}"],
  ] as const)("%s is a failure of the server", async (_, tag, value) => {
    const { call, frame } = start();
    frame(tag, value);
    expect(await failureOf(call.opened)).toMatchObject({ outcome: "failed", blamed: "server" });
  });
  test("an actor that is lost: elsewhere before the head, an error after it", async () => {
    const early = start();
    early.call.lost();
    expect(await failureOf(early.call.opened)).toMatchObject({ outcome: "failed", blamed: "actor" });
    const late = start();
    late.head();
    const reading = codeOf(late.call.read());
    late.call.lost();
    expect([await reading, late.told.over]).toEqual(["upstream_failed", [true]]);
  });
  test("a client that leaves: the reader ends, the actor is told, once", async () => {
    const { call, told, leaving, frame, head } = start();
    head();
    const reading = call.read();
    leaving.abort(new Error("left"));
    call.cancel();
    frame("data", "late");
    expect([await reading, await call.read(), told.over]).toEqual([null, null, [true]]);
  });
});
