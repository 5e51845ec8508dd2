// A picture from a text, by an image model. The host calls it for tasks of the model `image-generate`; the bytes become
// a file of the result. What the server answers is checked to be a picture before anybody stores it.
import { defineRunner, file, RunnerError, t } from "millrace";
import { MAX_ATTEMPTS, TIMEOUT_MS } from "./llm/generation.ts";

export default defineRunner({
  name: "image-generate",
  version: "1.0.0",
  summary: "Draws a picture from a text with an image model.",
  input: t.Object({
    prompt: t.String({ minLength: 1, maxLength: 32_000, description: "What the picture shows." }),
    model: t.Optional(
      t.String({ minLength: 1, maxLength: 256, description: "Image model, as in models.yaml. Default: the first." }),
    ),
    size: t.Optional(
      t.String({ pattern: "^[1-9][0-9]{0,3}x[1-9][0-9]{0,3}$", description: "Pixels, such as `512x512`." }),
    ),
  }),
  output: t.Object({
    image: file("image/*"),
    size: t.Tuple([t.Integer({ minimum: 1 }), t.Integer({ minimum: 1 })], { description: "Width and height" }),
    model: t.String({ description: "The image model, as in models.yaml." }),
  }),
  example: { prompt: "A cat on a roof", size: "64x64" },
  slots: 16, // the server queues
  timeoutMs: TIMEOUT_MS,
  maxAttempts: MAX_ATTEMPTS,
  prepare: (asked) => asked,
  infer: async ({ prompt, size, model = "" }, ctx) => {
    const { data: answer, response } = await ctx.llm.images
      .generate({ prompt, model, n: 1, ...(size !== undefined && { size }) })
      .withResponse();
    const picture = "data" in answer ? answer.data?.[0] : undefined;
    return { picture, model: response.headers.get("x-millrace-model") ?? "" };
  },
  postprocess: async ({ picture, model }, ctx) => {
    const place = picture?.b64_json ? { image_base64: picture.b64_json } : { image_url: picture?.url ?? "" };
    if (!picture || place.image_url === "")
      throw new RunnerError("upstream_failed", "The model server sent no picture");
    const { bytes, format, width, height } = await ctx.image(place);
    return { image: ctx.file(bytes, `image/${format}`), size: [width, height] as [number, number], model };
  },
});
