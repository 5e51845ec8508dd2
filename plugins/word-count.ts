// The smallest useful runner, as plugins/README.md tells it: one file, nothing else to touch.
import { defineRunner, t } from "millrace";

export default defineRunner({
  name: "word-count",
  version: "1.0.0",
  summary: "Counts the words of a text.",
  input: t.Object({ text: t.String({ maxLength: 100_000 }) }),
  output: t.Object({ words: t.Integer() }),
  example: { text: "one two three" },
  prepare: (input) => input.text.split(/\s+/).filter(Boolean),
  infer: (words) => words.length,
  postprocess: (count) => ({ words: count }),
});
