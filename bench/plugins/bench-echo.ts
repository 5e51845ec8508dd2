// The runner of the priority phase: answers its input, after `sleep_ms` where it is given. Two slots, so that two
// actors give the four slots that every system measured has in that phase. For the benchmark alone.
import { defineRunner, t } from "millrace";

export default defineRunner({
  name: "bench-echo",
  version: "1.0.0",
  summary: "Answers its input after a pause, on two slots.",
  slots: 2,
  input: t.Object({
    text: t.String({ maxLength: 1_000 }),
    sleep_ms: t.Optional(t.Integer({ minimum: 0, maximum: 1_000 })),
  }),
  output: t.Object({ text: t.String() }),
  example: { text: "hi" },
  prepare: (input) => input,
  infer: async (input) => {
    if (input.sleep_ms) await Bun.sleep(input.sleep_ms);
    return input;
  },
  postprocess: (input) => ({ text: input.text }),
});
