// Scores a picture as `image-scoring` does, by a vision model that looks at it: the same measures, and in a sentence
// why. The host calls it for tasks of the model `image-scoring-vlm`. A verdict that is not of the asked form is another
// attempt; unlike the CPU's scores it may differ from run to run.
import { type DecodedImage, decodePixels, defineRunner, imageInput, RunnerError, t } from "millrace";
import sharp from "sharp";
import { MAX_ATTEMPTS, TIMEOUT_MS, usageSchema } from "./llm/generation.ts";

/** What vision models look at at most; more costs tokens and shows them nothing. */
const SIDE_MAX = 1_024;
const REASON_CHARS_MAX = 500;

const measures = {
  score: "overall technical quality",
  sharpness: "0 is blurred",
  exposure: "0 is black, white or clipped",
  contrast: "0 is flat",
  colourfulness: "0 is grey",
  noise: "100 is clean",
} as const;

const score = (description: string) => t.Number({ minimum: 0, maximum: 100, description });

const verdict = t.Object(
  {
    score: score(measures.score),
    sharpness: score(measures.sharpness),
    exposure: score(measures.exposure),
    contrast: score(measures.contrast),
    colourfulness: score(measures.colourfulness),
    noise: score(measures.noise),
    reason: t.String({ maxLength: REASON_CHARS_MAX, description: "Why, in a sentence" }),
  },
  { additionalProperties: false },
);
type Verdict = (typeof verdict)["static"];

const instructions =
  "Judge the technical quality of the picture, not its subject. Give each measure from 0 (worst) to 100 (best): " +
  `${Object.entries(measures)
    .map(([name, meaning]) => `${name} (${meaning})`)
    .join(", ")}. Then say why in one sentence.`;

const { properties: picture } = imageInput();

export default defineRunner({
  name: "image-scoring-vlm",
  version: "1.0.0",
  summary:
    "Scores a picture's sharpness, exposure, contrast, colourfulness and noise by a vision model, each 0 to 100.",
  input: t.Object(
    {
      ...picture,
      model: t.Optional(
        t.String({
          minLength: 1,
          maxLength: 256,
          description: "Vision model, as in models.yaml. Default: `vision`'s.",
        }),
      ),
    },
    { oneOf: Object.keys(picture).map((name) => ({ required: [name] })) },
  ),
  output: t.Object({
    ...verdict.properties,
    width: t.Integer({ minimum: 1, description: "Of the picture as sent, upright" }),
    height: t.Integer({ minimum: 1 }),
    usage: usageSchema,
    model: t.String({ description: "The model that judged, as in models.yaml." }),
  }),
  // A WebP of 8 x 6 pixels.
  example: { image_base64: "UklGRioAAABXRUJQVlA4TB4AAAAvB0ABALmM6H/sIqL/ASEB4ZP/7yQLhmQAYwKQWjY=" },
  slots: 16, // the server batches; each holds a decoded picture while it prepares
  timeoutMs: TIMEOUT_MS,
  maxAttempts: MAX_ATTEMPTS,
  prepare: async ({ model = "", ...place }, ctx) => {
    const image = await ctx.image(place);
    ctx.signal.throwIfAborted();
    return { model, url: await dataUrl(image), width: image.width, height: image.height };
  },
  infer: async ({ model, url, width, height }, ctx) => {
    const { data: answer, response } = await ctx.llm.chat.completions
      .create(
        {
          model,
          messages: [
            { role: "system", content: instructions },
            { role: "user", content: [{ type: "image_url", image_url: { url } }] },
          ],
          temperature: 0,
          max_tokens: 400,
          response_format: {
            type: "json_schema",
            json_schema: { name: "verdict", strict: true, schema: plain(verdict) },
          },
        },
        { headers: { "x-millrace-purpose": "vision" } },
      )
      .withResponse();
    const { prompt_tokens = 0, completion_tokens = 0, total_tokens = 0 } = answer.usage ?? {};
    return {
      text: answer.choices[0]?.message.content ?? "",
      usage: { prompt_tokens, completion_tokens, total_tokens },
      model: response.headers.get("x-millrace-model") ?? "",
      width,
      height,
    };
  },
  postprocess: ({ text, ...rest }) => ({ ...verdictOf(text), ...rest }),
});

const plain = (schema: object): Record<string, unknown> => JSON.parse(JSON.stringify(schema));

/** The picture as vision models take it: upright, small, a JPEG on white, and nothing else of the file. */
async function dataUrl(image: DecodedImage): Promise<string> {
  const { data, width, height, channels } = await decodePixels(image);
  const jpeg = await sharp(data, { raw: { width, height, channels } })
    .flatten({ background: "white" })
    .resize({ width: SIDE_MAX, height: SIDE_MAX, fit: "inside", withoutEnlargement: true })
    .jpeg({ quality: 90 })
    .toBuffer();
  return `data:image/jpeg;base64,${jpeg.toString("base64")}`;
}

/** A server may not keep to the schema: the numbers are looked at, and the reason is cut. */
function verdictOf(text: string): Verdict {
  let said: Partial<Verdict> | null = null;
  try {
    said = JSON.parse(text);
  } catch {
    // Told below.
  }
  const number = (name: keyof typeof measures): number => {
    const value = said?.[name];
    if (typeof value === "number" && value >= 0 && value <= 100) return Math.round(value * 10) / 10;
    throw new RunnerError("no_verdict", "The vision model gave no verdict of the asked form");
  };
  return {
    score: number("score"),
    sharpness: number("sharpness"),
    exposure: number("exposure"),
    contrast: number("contrast"),
    colourfulness: number("colourfulness"),
    noise: number("noise"),
    reason: String(said?.reason ?? "").slice(0, REASON_CHARS_MAX),
  };
}
