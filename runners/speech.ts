// A text spoken by a model. The host calls it for tasks of the model `speech`; the answer is a WAV file of the result,
// and nothing that is no WAV is stored as one.
import { defineRunner, file, RunnerError, t } from "millrace";
import { MAX_ATTEMPTS, TIMEOUT_MS } from "./llm/generation.ts";

export default defineRunner({
  name: "speech",
  version: "1.0.0",
  summary: "Speaks a text; answers a WAV file.",
  input: t.Object({
    text: t.String({ minLength: 1, maxLength: 4_096, pattern: "\\S" }),
    model: t.Optional(
      t.String({ minLength: 1, maxLength: 256, description: "Model, as in models.yaml. Default: the first." }),
    ),
    voice: t.Optional(t.String({ minLength: 1, maxLength: 64, description: "A voice that the model has." })),
    speed: t.Optional(t.Number({ minimum: 0.25, maximum: 4, description: "1 is as people speak." })),
  }),
  output: t.Object({
    audio: file("audio/wav"),
    model: t.String({ description: "The model, as in models.yaml." }),
  }),
  example: { text: "Hello." },
  slots: 16, // the server queues
  timeoutMs: TIMEOUT_MS,
  maxAttempts: MAX_ATTEMPTS,
  prepare: (asked) => asked,
  infer: async ({ text, model = "", voice = "alloy", speed }, ctx) => {
    const response = await ctx.llm.audio.speech.create({
      input: text,
      model,
      voice,
      response_format: "wav",
      ...(speed !== undefined && { speed }),
    });
    return { bytes: await response.bytes(), model: response.headers.get("x-millrace-model") ?? "" };
  },
  postprocess: ({ bytes, model }, ctx) => {
    if (Buffer.from(bytes.subarray(8, 12)).toString("latin1") !== "WAVE") {
      throw new RunnerError("no_wav", "The model server answered another format than WAV", { retryable: false });
    }
    return { audio: ctx.file(bytes, "audio/wav"), model };
  },
});
