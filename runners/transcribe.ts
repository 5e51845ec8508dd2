// Speech written down by a model, streamed to watchers as it is heard. The host calls it for tasks of the model
// `transcribe`; the sound comes by URL, upload or in the task, always through the host's own checks.
import { audioInput, defineRunner, RunnerError, t } from "millrace";
import { MAX_ATTEMPTS, piecesOf, TIMEOUT_MS } from "./llm/generation.ts";

/** A WAV of one hundredth of a second of silence. */
const EXAMPLE = wave(80);

export default defineRunner({
  name: "transcribe",
  version: "1.0.0",
  summary: "Writes down what is said in a recording, streamed as deltas of text.",
  input: audioInput({
    model: t.Optional(
      t.String({ minLength: 1, maxLength: 256, description: "Model, as in models.yaml. Default: the first." }),
    ),
    language: t.Optional(t.String({ pattern: "^[a-z]{2,3}$", description: "Its language, as ISO 639 names it." })),
    prompt: t.Optional(t.String({ maxLength: 4_096, description: "A text that it continues." })),
  }),
  output: t.Object({
    text: t.String(),
    model: t.String({ description: "The model, as in models.yaml." }),
  }),
  example: { audio_base64: EXAMPLE },
  slots: 16, // the server queues
  timeoutMs: TIMEOUT_MS,
  maxAttempts: MAX_ATTEMPTS,
  prepare: async (asked, ctx) => ({ asked, sound: await ctx.audio(asked) }),
  infer: async ({ asked: { model = "", language, prompt }, sound }, ctx) => {
    const { bytes, name, contentType } = sound;
    const { data: events, response } = await ctx.llm.audio.transcriptions
      .create({
        file: new File([new Uint8Array(bytes)], name, { type: contentType }),
        model,
        stream: true,
        ...(language !== undefined && { language }),
        ...(prompt !== undefined && { prompt }),
      })
      .withResponse();
    let text: string | null = null;
    for await (const event of events) {
      if (event.type === "transcript.text.delta")
        for (const piece of piecesOf(event.delta)) ctx.emit({ text: piece }, merge);
      if (event.type === "transcript.text.done") ({ text } = event);
    }
    if (text === null) throw new RunnerError("upstream_failed", "The model server ended the transcript without an end");
    return { text, model: response.headers.get("x-millrace-model") ?? "" };
  },
  postprocess: (answer) => answer,
});

interface TextDelta {
  readonly text: string;
}

const merge = (earlier: TextDelta, later: TextDelta): TextDelta => ({ text: earlier.text + later.text });

/** Silence as a WAV file in base64: 8 kHz, 16 bit, mono. */
function wave(samples: number): string {
  const header = Buffer.alloc(44);
  header.write("RIFF", 0);
  header.writeUInt32LE(36 + 2 * samples, 4);
  header.write("WAVEfmt ", 8);
  header.writeUInt32LE(16, 16);
  header.writeUInt16LE(1, 20);
  header.writeUInt16LE(1, 22);
  header.writeUInt32LE(8_000, 24);
  header.writeUInt32LE(16_000, 28);
  header.writeUInt16LE(2, 32);
  header.writeUInt16LE(16, 34);
  header.write("data", 36);
  header.writeUInt32LE(2 * samples, 40);
  return Buffer.concat([header, Buffer.alloc(2 * samples)]).toString("base64");
}
