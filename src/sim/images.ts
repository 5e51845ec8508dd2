// `/v1/images/generations`: small real PNGs for a prompt, in base64. What is on them is draw-image.ts's business; here is
// OpenAI's form, and the time that drawing takes.
import { drawImage, IMAGE_SIDE_MAX } from "./draw-image.ts";
import { leftResponse, workInEngine } from "./engine-work.ts";
import type { Exchange, Route, Simulation } from "./routes.ts";
import { readInteger } from "./sampling.ts";
import { servedModel } from "./served-models.ts";
import { tokenize } from "./tokenizer.ts";
import { WireError } from "./wire-error.ts";

export const imageRoutes: readonly Route[] = [
  { method: "POST", path: "/v1/images/generations", body: "json", handle: answerImages },
];

/** OpenAI's. */
const IMAGES_MAX = 10;
/** A diffusion model takes some dozens of steps for a picture, a step a token's time. */
const STEPS = 28;
const SIZE_DEFAULT = "1024x1024";

async function answerImages(exchange: Exchange, simulation: Simulation): Promise<Response> {
  const { body } = exchange;
  const model = servedModel(body, simulation.models);
  const { prompt } = body;
  if (typeof prompt !== "string" || prompt === "") throw new WireError(400, "prompt must be a text", "prompt");
  const count = readInteger(body, "n", 1, IMAGES_MAX) ?? 1;
  const size = readSize(body.size);
  const wanted = { response_format: "b64_json", output_format: "png", stream: false } as const;
  for (const [name, only] of Object.entries(wanted)) {
    if (body[name] != null && body[name] !== only) throw new WireError(400, `${name} can only be ${only} here`, name);
  }
  const pieces = tokenize(prompt);
  const works = Array.from({ length: count }, () => ({ prompt: pieces, steps: STEPS }));
  if (!(await workInEngine(works, model, simulation, exchange))) return leftResponse();
  const seed = `${simulation.seed}/${readInteger(body, "seed", Number.MIN_SAFE_INTEGER) ?? ""}`;
  const data = works.map((_, index) => {
    const bytes = drawImage(prompt, { ...size, seed: `${seed}/${index}` });
    return { b64_json: Buffer.from(bytes).toString("base64") };
  });
  const [input, output] = [pieces.length, count * STEPS];
  return Response.json({
    created: Math.floor(Date.now() / 1_000),
    data,
    output_format: "png",
    size: `${size.width}x${size.height}`,
    usage: {
      input_tokens: input,
      output_tokens: output,
      total_tokens: input + output,
      input_tokens_details: { text_tokens: input, image_tokens: 0 },
    },
    system_fingerprint: simulation.fingerprint,
  });
}

function readSize(value: unknown): { width: number; height: number } {
  const text = value == null || value === "auto" ? SIZE_DEFAULT : value;
  const [, width = 0, height = 0] = /^(\d{1,5})x(\d{1,5})$/.exec(String(text))?.map(Number) ?? [];
  if (width < 1 || height < 1 || Math.max(width, height) > IMAGE_SIDE_MAX) {
    throw new WireError(400, `size must be such as 1024x1024, at most ${IMAGE_SIDE_MAX} a side`, "size");
  }
  return { width, height };
}
