import { describe, expect, expectTypeOf, test } from "bun:test";
import { Type as t } from "@sinclair/typebox";
import { defineRunner } from "./define.ts";
import { type FileOutput, file } from "./file.ts";

const base = {
  name: "typed",
  version: "1.0.0",
  summary: "Pins the types.",
  input: t.Object({ text: t.String() }),
  output: t.Object({ words: t.Integer() }),
};

// The compiler is the test: `tsc --noEmit` fails when a type stops flowing from one stage to the next.
describe("types flow", () => {
  test("from input through prepare and infer to postprocess", () => {
    defineRunner({
      ...base,
      prepare: (input, ctx) => {
        expectTypeOf(input).toEqualTypeOf<{ text: string }>();
        expectTypeOf(ctx.state).toEqualTypeOf<undefined>();
        return input.text.split(" ");
      },
      infer: (words) => {
        expectTypeOf(words).toEqualTypeOf<string[]>();
        return words.length;
      },
      postprocess: (count) => {
        expectTypeOf(count).toEqualTypeOf<number>();
        return { words: count };
      },
    });
  });

  test("through promises, and from load to ctx.state", () => {
    defineRunner({
      ...base,
      load: async (ctx) => ({ gpu: ctx.gpu, offset: 1 }),
      unload: (state) => {
        expectTypeOf(state.offset).toEqualTypeOf<number>();
      },
      prepare: async (input, ctx) => input.text.length + ctx.state.offset,
      infer: async (length, ctx) => {
        expectTypeOf(length).toEqualTypeOf<number>();
        return `${ctx.state.gpu} ${length}`;
      },
      postprocess: (text) => {
        expectTypeOf(text).toEqualTypeOf<string>();
        return { words: 1 };
      },
    });
  });

  test("through batches", () => {
    defineRunner({
      ...base,
      batch: { max: 4, waitMs: 5 },
      prepare: (input) => input.text,
      inferBatch: (texts, contexts) => {
        expectTypeOf(texts).toEqualTypeOf<readonly string[]>();
        expectTypeOf(contexts[0]?.task.attempt).toEqualTypeOf<number | undefined>();
        return texts.map((text) => text.length);
      },
      postprocess: (count) => ({ words: count }),
    });
  });

  test("an output that does not match is refused by the compiler", () => {
    defineRunner({
      ...base,
      prepare: (input) => input.text,
      infer: (text) => text,
      // @ts-expect-error words is a number
      postprocess: (text) => ({ words: text }),
    });
  });

  test("a file field takes what ctx.file returns", () => {
    defineRunner({
      ...base,
      output: t.Object({ image: file("image/png") }),
      prepare: () => new Uint8Array(),
      infer: (bytes) => bytes,
      postprocess: (bytes, ctx) => {
        expectTypeOf(ctx.file(bytes, "image/png")).toEqualTypeOf<FileOutput>();
        return { image: ctx.file(bytes, "image/png") };
      },
    });
  });
});

describe("refused at import", () => {
  const good = { ...base, prepare: (input: unknown) => input, infer: () => 1, postprocess: () => ({ words: 1 }) };
  const wrong: readonly [string, object][] = [
    ["name", { name: "Word Count" }],
    ["version", { version: "1" }],
    ["summary", { summary: "" }],
    ["summary", { summary: "two\nlines" }],
    ["sdk", { sdk: 2 }],
    ["input", { input: undefined }],
    ["prepare", { prepare: undefined }],
    ["infer", { infer: 3 }],
    ["either infer or inferBatch", { inferBatch: () => [], batch: { max: 1, waitMs: 0 } }],
    ["slots", { slots: 0 }],
    ["timeoutMs", { timeoutMs: 1.5 }],
    ["maxAttempts", { maxAttempts: 21 }],
  ];
  for (const [part, change] of wrong) {
    test(`${part} ${JSON.stringify(change)}`, () => {
      const refused = expect.objectContaining({ code: "invalid_runner", message: expect.stringContaining(part) });
      expect(() => defineRunner({ ...good, ...change } as typeof good)).toThrow(refused);
    });
  }
  test("a batch needs its limits", () => {
    const { infer: _infer, ...rest } = good;
    const batching = { ...rest, inferBatch: () => [1], batch: { max: 0, waitMs: 0 } };
    expect(() => defineRunner(batching)).toThrow("batch.max");
  });
});
