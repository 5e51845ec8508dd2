// `/v1/images/generations`: small real PNGs for a prompt, in base64. What is on them is draw-image.ts's business; here is
// OpenAI's form, and the time that drawing takes.

import { IMAGE_SIDE_MAX } from "./draw-image.ts";
import { leftResponse, workInEngine } from "./engine-work.ts";
import { generate, refuseFull } from "./generate.ts";
import { jsonResponse } from "./json-response.ts";
import { drawnFor, type PictureRequest, pictureSender, pictureUsage, STEPS } from "./picture-sender.ts";
import type { Exchange, Route, Simulation } from "./routes.ts";
import { readFlag, readInteger, readSampling, roomFor } from "./sampling.ts";
import { servedModel } from "./served-models.ts";
import { tokenize } from "./tokenizer.ts";
import { WireError } from "./wire-error.ts";

export const imageRoutes: readonly Route[] = [
  { method: "POST", path: "/v1/images/generations", body: "json", handle: answerImages },
];

/** OpenAI's. */
const IMAGES_MAX = 10;
/** OpenAI's. */
const PARTS_MAX = 3;
const SIZE_DEFAULT = "1024x1024";

async function answerImages(exchange: Exchange, simulation: Simulation): Promise<Response> {
  const { body } = exchange;
  const model = servedModel(body, simulation.models);
  const { prompt } = body;
  if (typeof prompt !== "string" || prompt === "") throw new WireError(400, "prompt must be a text", "prompt");
  const count = readInteger(body, "n", 1, IMAGES_MAX) ?? 1;
  const size = readSize(body.size);
  const wanted = { response_format: "b64_json", output_format: "png" } as const;
  for (const [name, only] of Object.entries(wanted)) {
    if (body[name] != null && body[name] !== only) throw new WireError(400, `${name} can only be ${only} here`, name);
  }
  const seed = `${simulation.seed}/${readInteger(body, "seed", Number.MIN_SAFE_INTEGER) ?? ""}`;
  const partial = readInteger(body, "partial_images", 0, PARTS_MAX) ?? 0;
  const picture = { prompt, ...size, seed, partial, fingerprint: simulation.fingerprint };
  const pieces = tokenize(prompt);
  if (readFlag(body, "stream")) return streamPictures(picture, pieces, count, model, exchange, simulation);
  const works = Array.from({ length: count }, () => ({ prompt: pieces, steps: STEPS }));
  if (!(await workInEngine(works, model, simulation, exchange))) return leftResponse();
  return jsonResponse({
    created: Math.floor(Date.now() / 1_000),
    data: works.map((_, index) => ({ b64_json: drawnFor(picture, index) })),
    output_format: "png",
    size: `${size.width}x${size.height}`,
    usage: pictureUsage(pieces.length, count),
    system_fingerprint: simulation.fingerprint,
  });
}

function streamPictures(
  picture: PictureRequest,
  pieces: readonly string[],
  count: number,
  model: string,
  exchange: Exchange,
  simulation: Simulation,
): Response | Promise<Response> {
  refuseFull(simulation);
  roomFor(pieces.length, STEPS, simulation.engine.profile().maxModelLen);
  const plan = {
    pieces: new Array<string>(STEPS).fill(""),
    deltas: [],
    finishReason: "stop",
    stopReason: null,
  } as const;
  const sampling = { ...readSampling({ stream: true }, []), n: count };
  const plans = new Array<typeof plan>(count).fill(plan);
  const sender = pictureSender(picture, pieces.length);
  return generate({ simulation, exchange, sampling, prompts: [pieces], plans, salt: model, sender });
}

function readSize(value: unknown): { width: number; height: number } {
  const text = value == null || value === "auto" ? SIZE_DEFAULT : value;
  const [, width = 0, height = 0] = /^(\d{1,5})x(\d{1,5})$/.exec(String(text))?.map(Number) ?? [];
  if (width < 1 || height < 1 || Math.max(width, height) > IMAGE_SIDE_MAX) {
    throw new WireError(400, `size must be such as 1024x1024, at most ${IMAGE_SIDE_MAX} a side`, "size");
  }
  return { width, height };
}
