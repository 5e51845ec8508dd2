// Scores a picture by five measures that need no reference and no model: sharpness, exposure, contrast, colourfulness
// and noise, each 0 to 100, and their weighted mean. The host calls it for tasks of the model `image-scoring`. The same
// picture always gets the same score; it judges signal, never taste or content.
//
// Normalisation: the picture is laid on white where it is transparent and reduced to fit SIDE_MAX pixels (never
// enlarged) before anything is measured. Larger versions of a photograph so score alike, and every measure means what
// is seen at that size: noise that averages out does not count, nor does sharpness beyond it.
import { decodePixels, defineRunner, imageInput, type Pixels, t } from "millrace";
import sharp from "sharp";

const SIDE_MAX = 512;

/** Shares of the total; they sum to 1. Blur and bad exposure spoil a picture more than pale colours do. */
const WEIGHTS = { sharpness: 0.3, exposure: 0.25, contrast: 0.15, colourfulness: 0.1, noise: 0.2 } as const;

type Measures = Record<keyof typeof WEIGHTS, number>;

/** Luma (Rec. 709 weights on sRGB values), 0 to 255. */
interface Luma {
  readonly values: Float64Array;
  readonly width: number;
  readonly height: number;
}

const score = (description: string) => t.Number({ minimum: 0, maximum: 100, description });

export default defineRunner({
  name: "image-scoring",
  version: "1.0.0",
  summary: "Scores a picture's sharpness, exposure, contrast, colourfulness and noise, each 0 to 100.",
  input: imageInput(),
  output: t.Object({
    score: score("Weighted mean of the five"),
    sharpness: score("Variance of the Laplacian; 0 is blurred"),
    exposure: score("Mean brightness and clipping; 0 is black, white or clipped"),
    contrast: score("Root mean square contrast; 0 is flat"),
    colourfulness: score("Hasler and Süsstrunk's measure; 0 is grey"),
    noise: score("Immerkær's estimate; 100 is clean"),
    width: t.Integer({ minimum: 1, description: "Of the picture as sent, upright" }),
    height: t.Integer({ minimum: 1 }),
  }),
  // A WebP of 8 x 6 pixels.
  example: { image_base64: "UklGRioAAABXRUJQVlA4TB4AAAAvB0ABALmM6H/sIqL/ASEB4ZP/7yQLhmQAYwKQWjY=" },
  prepare: async (input, ctx) => {
    const image = await ctx.image(input);
    ctx.signal.throwIfAborted();
    const pixels = await decodePixels(image);
    ctx.signal.throwIfAborted();
    const { width, height, channels } = pixels;
    const { data, info } = await sharp(pixels.data, { raw: { width, height, channels } })
      .flatten({ background: "white" })
      .resize({ width: SIDE_MAX, height: SIDE_MAX, fit: "inside", withoutEnlargement: true })
      .raw()
      .toBuffer({ resolveWithObject: true });
    const normalised: Pixels = { data, width: info.width, height: info.height, channels: 3 };
    return { normalised, width, height };
  },
  infer: ({ normalised, width, height }) => ({ measures: measure(normalised), width, height }),
  postprocess: ({ measures, width, height }) => {
    const names = Object.keys(WEIGHTS) as (keyof Measures)[];
    const total = names.reduce((sum, name) => sum + WEIGHTS[name] * measures[name], 0);
    const { sharpness, exposure, contrast, colourfulness, noise } = measures;
    return {
      score: rounded(total),
      sharpness: rounded(sharpness),
      exposure: rounded(exposure),
      contrast: rounded(contrast),
      colourfulness: rounded(colourfulness),
      noise: rounded(noise),
      width,
      height,
    };
  },
});

/** One decimal: what lies below differs between processors. */
const rounded = (value: number): number => Math.round(value * 10) / 10;

function measure(pixels: Pixels): Measures {
  const luma = lumaOf(pixels);
  return {
    sharpness: sharpness(luma),
    exposure: exposure(luma),
    contrast: contrast(luma),
    colourfulness: colourfulness(pixels),
    noise: noise(luma),
  };
}

function lumaOf({ data, width, height }: Pixels): Luma {
  const values = new Float64Array(width * height);
  for (let i = 0; i < values.length; i++) {
    values[i] = 0.2126 * (data[3 * i] ?? 0) + 0.7152 * (data[3 * i + 1] ?? 0) + 0.0722 * (data[3 * i + 2] ?? 0);
  }
  return { values, width, height };
}

/**
 * V = variance of the luma's Laplacian [0 1 0; 1 -4 1; 0 1 0]; score = 100 V / (V + 300), so that 300, a picture that
 * is sharp at a glance, gets 50. Noise raises it too. Pech-Pacheco et al., "Diatom autofocusing in brightfield
 * microscopy", ICPR 2000; LAP4 in Pertuz et al., "Analysis of focus measure operators", Pattern Recognition 46, 2013.
 */
function sharpness(luma: Luma): number {
  const { variance } = statistics(convolved(luma, 0, 1, -4));
  return (100 * variance) / (variance + 300);
}

/**
 * With m the mean luma (0 to 1) and c the share of pixels within 2 of black or white: score = 100 (1 - c)
 * exp(-(m - 0.5)² / (2 · 0.2²)). The curve and its 0.2 are the well-exposedness of Mertens et al., "Exposure fusion",
 * Pacific Graphics 2007, taken of the mean: taken of each pixel it would punish contrast.
 */
function exposure({ values }: Luma): number {
  let clipped = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] ?? 0;
    if (value <= 2 || value >= 253) clipped++;
  }
  const { mean } = statistics(values);
  return 100 * (1 - clipped / values.length) * Math.exp(-((mean / 255 - 0.5) ** 2) / (2 * 0.2 ** 2));
}

/**
 * Root mean square contrast: the standard deviation of the luma (0 to 1); score = 100 min(1, it / 0.25). Half black and
 * half white is 0.5, a full and even range of greys 0.29. Peli, "Contrast in complex images", JOSA A 7, 1990.
 */
function contrast({ values }: Luma): number {
  return 100 * Math.min(1, Math.sqrt(statistics(values).variance) / 255 / 0.25);
}

/**
 * With rg = R - G and yb = (R + G) / 2 - B: M = √(σrg² + σyb²) + 0.3 √(μrg² + μyb²); score = 100 min(1, M / 109). The
 * paper's scale: 15 slightly, 45 averagely, 82 highly, 109 extremely colourful. Hasler and Süsstrunk, "Measuring
 * colourfulness in natural images", SPIE Human Vision and Electronic Imaging 2003.
 */
function colourfulness({ data, width, height }: Pixels): number {
  const redGreen = new Float64Array(width * height);
  const yellowBlue = new Float64Array(width * height);
  for (let i = 0; i < redGreen.length; i++) {
    const red = data[3 * i] ?? 0;
    const green = data[3 * i + 1] ?? 0;
    const blue = data[3 * i + 2] ?? 0;
    redGreen[i] = red - green;
    yellowBlue[i] = (red + green) / 2 - blue;
  }
  const rg = statistics(redGreen);
  const yb = statistics(yellowBlue);
  const measured = Math.sqrt(rg.variance + yb.variance) + 0.3 * Math.hypot(rg.mean, yb.mean);
  return 100 * Math.min(1, measured / 109);
}

/**
 * σ = √(π/2) · mean |L| / 6 with L the luma under [1 -2 1; -2 4 -2; 1 -2 1], which cancels image structure and keeps
 * noise; score = 100 exp(-σ / 10): a standard deviation of 1 gives 90, of 10 gives 37. Fine texture counts a little.
 * Immerkær, "Fast noise variance estimation", Computer Vision and Image Understanding 64, 1996.
 */
function noise(luma: Luma): number {
  const response = convolved(luma, 1, -2, 4);
  let sum = 0;
  for (let i = 0; i < response.length; i++) sum += Math.abs(response[i] ?? 0);
  const sigma = (Math.sqrt(Math.PI / 2) * sum) / (6 * Math.max(1, response.length));
  return 100 * Math.exp(-sigma / 10);
}

/**
 * The response to a symmetric 3 x 3 kernel, given by its corner, edge and centre, at every pixel that has all its
 * neighbours; empty below 3 x 3 pixels.
 */
function convolved({ values, width, height }: Luma, corner: number, edge: number, centre: number): Float64Array {
  const response = new Float64Array(Math.max(0, width - 2) * Math.max(0, height - 2));
  const at = (index: number): number => values[index] ?? 0;
  let next = 0;
  for (let y = 1; y < height - 1; y++) {
    for (let i = y * width + 1; i < (y + 1) * width - 1; i++) {
      const corners = at(i - width - 1) + at(i - width + 1) + at(i + width - 1) + at(i + width + 1);
      const edges = at(i - width) + at(i - 1) + at(i + 1) + at(i + width);
      response[next++] = corner * corners + edge * edges + centre * at(i);
    }
  }
  return response;
}

/** Mean and population variance; zeros for no values. (Counted loops here and above: `for of` is ten times slower.) */
function statistics(values: Float64Array): { readonly mean: number; readonly variance: number } {
  const count = Math.max(1, values.length);
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] ?? 0;
  const mean = sum / count;
  let squares = 0;
  for (let i = 0; i < values.length; i++) squares += ((values[i] ?? 0) - mean) ** 2;
  return { mean, variance: squares / count };
}
