import { expect, test } from "bun:test";
import fc from "fast-check";
import type { Answer } from "./answer.ts";
import { type Plan, planAnswer } from "./plan.ts";
import { tokenize } from "./tokenizer.ts";

const plain = {
  minTokens: 0,
  ignoreEos: false,
  stop: [] as string[],
  stopPieces: new Map<string, number>(),
  includeStop: false,
};
const saying = (text: string): Answer => ({ parts: [{ kind: "content", text }], finishReason: "stop" });
const textOf = ({ deltas }: Plan): string => deltas.map((delta) => delta.text).join("");

const words = fc.array(fc.constantFrom("ab", "abc", " ba", " ", "c", "bab", "\n"), { minLength: 1, maxLength: 60 });

test("an answer ends with the end of sequence, which counts and says nothing", () => {
  const plan = planAnswer(saying("The mill turns."), plain, 100);
  expect(textOf(plan)).toBe("The mill turns.");
  expect(plan.pieces).toEqual([...tokenize("The mill turns."), ""]);
  expect(plan.deltas).toHaveLength(plan.pieces.length);
  expect(plan).toMatchObject({ finishReason: "stop", stopReason: null });
});

test("what is longer than its room ends with length, at any room", () => {
  fc.assert(
    fc.property(words, fc.integer({ min: 1, max: 80 }), (parts, room) => {
      const text = parts.join("");
      const plan = planAnswer(saying(text), plain, room);
      const tokens = tokenize(text).length;
      expect(plan.pieces).toHaveLength(Math.min(tokens + 1, room));
      expect(plan.finishReason).toBe(tokens >= room ? "length" : "stop");
      expect(text.startsWith(textOf(plan))).toBe(true);
    }),
  );
});

test("nothing of a stop string is ever sent, however tokens cut it; what stands before it is", () => {
  const stops = fc.array(fc.constantFrom("ba", "bab", "c ", "abcab", "\nab", "zz"), { minLength: 1, maxLength: 3 });
  fc.assert(
    fc.property(words, stops, fc.integer({ min: 1, max: 80 }), (parts, stop, room) => {
      const plan = planAnswer(saying(parts.join("")), { ...plain, stop }, room);
      const generated = plan.pieces.join("");
      const sent = textOf(plan);
      expect(stop.some((one) => sent.includes(one))).toBe(false);
      expect(generated.startsWith(sent)).toBe(true);
      if (plan.stopReason === null) expect(sent).toBe(generated);
      else expect(generated.slice(sent.length).startsWith(String(plan.stopReason))).toBe(true);
      expect(plan.deltas).toHaveLength(plan.pieces.length);
    }),
  );
});

test("a stop string that is wanted in the answer ends it", () => {
  const plan = planAnswer(saying("one two three four"), { ...plain, stop: ["three"], includeStop: true }, 100);
  expect(textOf(plan)).toBe("one two three");
  expect(plan).toMatchObject({ finishReason: "stop", stopReason: "three" });
});

test("before min_tokens nothing stops, and a short answer goes on", () => {
  const stopping = planAnswer(saying("a b a b a b"), { ...plain, stop: ["b"], minTokens: 5 }, 100);
  expect(stopping.pieces.length).toBe(6);
  const short = planAnswer(saying("Yes."), { ...plain, minTokens: 20 }, 100);
  expect(short.pieces.length).toBeWithin(21, 24);
  expect(short.finishReason).toBe("stop");
});

test("ignore_eos goes on to the end of the room, also where nothing is said", () => {
  for (const text of ["Yes.", ""]) {
    const plan = planAnswer(saying(text), { ...plain, ignoreEos: true }, 50);
    expect(plan.pieces).toHaveLength(50);
    expect(plan.finishReason).toBe("length");
  }
});

test("tool calls begin with their name; stop strings do not look into them", () => {
  const parts: Answer["parts"] = [
    { kind: "reasoning", text: "They want the weather." },
    { kind: "tool_call", id: "call_1", name: "weather", arguments: '{"city":"Köln"}' },
    { kind: "tool_call", id: "call_2", name: "time", arguments: "{}" },
  ];
  const plan = planAnswer({ parts, finishReason: "tool_calls" }, { ...plain, stop: ["city"] }, 100);
  expect(plan.finishReason).toBe("tool_calls");
  const calls = plan.deltas.filter((delta) => delta.kind === "tool_call");
  expect(calls).toMatchObject([
    { index: 0, id: "call_1", name: "weather" },
    { index: 1, id: "call_2", name: "time" },
  ]);
  const given = plan.deltas.filter((delta) => delta.kind === "tool_arguments" && delta.index === 0);
  expect(given.length).toBeGreaterThan(1);
  expect(given.map((delta) => delta.text).join("")).toBe('{"city":"Köln"}');
});
