import { expect, test } from "bun:test";
import { type ChatDelta, GrowingMessage, type Message, mergeDeltas } from "./message.ts";

const grown = (deltas: readonly ChatDelta[]): Message => {
  const message = new GrowingMessage();
  for (const delta of deltas) message.add(delta);
  return message.finished();
};

/** What leaves when each delta may be merged into the one before. */
const merged = (deltas: readonly ChatDelta[]): ChatDelta[] => {
  const left: ChatDelta[] = [];
  for (const delta of deltas) {
    const before = left.at(-1);
    const one = before ? mergeDeltas(before, delta) : null;
    if (one) left[left.length - 1] = one;
    else left.push(delta);
  }
  return left;
};

const call = (index: number, id: string, name: string): ChatDelta => ({
  tool_calls: [{ index, id, type: "function", function: { name, arguments: "" } }],
  tokens: 1,
});
const piece = (index: number, text: string): ChatDelta => ({
  tool_calls: [{ index, function: { arguments: text } }],
  tokens: 1,
});

const deltas: readonly ChatDelta[] = [
  { reasoning: "so", tokens: 1 },
  { reasoning: "…", tokens: 1 },
  { content: "I ", tokens: 1 },
  { content: "look.", tokens: 2 },
  call(0, "a", "weather"),
  piece(0, '{"city"'),
  piece(0, ':"Rome"}'),
  call(1, "b", "clock"),
  piece(1, "{}"),
  piece(0, " "),
];

test("pieces become the message", () => {
  expect(grown(deltas)).toEqual({
    role: "assistant",
    content: "I look.",
    reasoning: "so…",
    tool_calls: [
      { id: "a", type: "function", function: { name: "weather", arguments: '{"city":"Rome"} ' } },
      { id: "b", type: "function", function: { name: "clock", arguments: "{}" } },
    ],
  });
  expect(grown([call(0, "a", "x")]).content).toBeNull();
  expect(grown([])).toEqual({ role: "assistant", content: "" });
});

test("merged or not, it is the same message with the same tokens", () => {
  const left = merged(deltas);
  expect(left.length).toBe(3);
  expect(grown(left)).toEqual(grown(deltas));
  const tokens = (all: readonly ChatDelta[]): number => all.reduce((sum, delta) => sum + (delta.tokens ?? 0), 0);
  expect(tokens(left)).toBe(tokens(deltas));
});

test("the end stays apart", () => {
  expect(mergeDeltas({ content: "a" }, { finish_reason: "stop" })).toBeNull();
  expect(mergeDeltas({ finish_reason: "stop" }, { content: "a" })).toBeNull();
  expect(mergeDeltas({ content: "a" }, { reasoning: "b" })).toBeNull();
});

test("an index that no model sends makes no room", () => {
  expect(grown([{ tool_calls: [{ index: 1e9 }, { index: -1 }, { index: 0.5 }] }])).toEqual(grown([]));
});
