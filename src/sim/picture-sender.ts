// Pictures as a stream in OpenAI's form: coarse views while they are drawn, where they were asked for, and each as it is
// when it is done. Called by images.ts for a request with `stream`; it draws at the moment at which a view is due.
import { drawImage } from "./draw-image.ts";
import type { Sender } from "./generate.ts";

/** A diffusion model takes some dozens of steps for a picture, a step a token's time. */
export const STEPS = 28;
/** Of a coarse view's longer side; each further one has twice as many. */
const FIRST_CELLS = 8;

export interface PictureRequest {
  readonly prompt: string;
  readonly width: number;
  readonly height: number;
  readonly seed: string;
  /** Coarse views of each, 0 to 3. */
  readonly partial: number;
  readonly fingerprint: string;
}

/** The bytes of one of a request's pictures, in base64. */
export function drawnFor({ prompt, width, height, seed }: PictureRequest, index: number, cells?: number): string {
  const options = { width, height, seed: `${seed}/${index}`, ...(cells !== undefined && { cells }) };
  return Buffer.from(drawImage(prompt, options)).toString("base64");
}

/** Of `pictures` for a prompt that is read once. */
export function pictureUsage(promptTokens: number, pictures: number): object {
  const output = pictures * STEPS;
  return {
    input_tokens: promptTokens,
    output_tokens: output,
    total_tokens: promptTokens + output,
    input_tokens_details: { text_tokens: promptTokens, image_tokens: 0 },
  };
}

/** For plans of STEPS tokens, one a picture. */
export function pictureSender(picture: PictureRequest, promptTokens: number): Sender {
  const { width, height, partial, fingerprint } = picture;
  const common = {
    created_at: Math.floor(Date.now() / 1_000),
    size: `${width}x${height}`,
    quality: "auto",
    background: "opaque",
    output_format: "png",
    system_fingerprint: fingerprint,
  };
  /** The step at which a view is due. */
  const dueAt = (view: number): number => Math.ceil((STEPS * (view + 1)) / (partial + 1));
  return {
    cached() {},
    events(choice, from, to) {
      const events: string[] = [];
      for (let view = 0; view < partial; view++) {
        if (dueAt(view) <= from || dueAt(view) > to) continue;
        const b64_json = drawnFor(picture, choice, FIRST_CELLS * 2 ** view);
        const type = "image_generation.partial_image";
        events.push(JSON.stringify({ type, b64_json, partial_image_index: view, ...common }));
      }
      if (to < STEPS) return events;
      const usage = pictureUsage(choice === 0 ? promptTokens : 0, 1);
      const type = "image_generation.completed";
      return [...events, JSON.stringify({ type, b64_json: drawnFor(picture, choice), ...common, usage })];
    },
    lastEvents: () => [],
    whole: () => null, // pictures that are no stream are answered without a sender
    sentinel: false,
  };
}
