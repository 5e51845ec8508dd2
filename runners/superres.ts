// Enlarges a picture two or four times. The host calls it for tasks of the models `superres-x2` and `superres-x4`; the
// answer is a PNG of exactly twice or four times the size. It must never decode a picture whose enlargement would
// exceed OUTPUT_PIXELS_MAX.
import { decodePixels, defineRunner, file, imageInput, type Pixels, t } from "millrace";
import sharp from "sharp";

/** 100 megapixels: 400 MB of pixels at most while they are encoded, and a PNG that viewers still open. */
const OUTPUT_PIXELS_MAX = 100_000_000;

type Factor = 2 | 4;

/** Pixels repeated around the picture while it is enlarged, so that its edges do not mix with what lies outside. */
const MARGIN = 4;

/**
 * What enlarges. `load` makes one for the life of the process: a model that runs on the GPU takes the place of
 * `bicubic` there, puts its weights on `ctx.gpu` and answers `upscale` in the same shape.
 */
interface Upscaler {
  /** The same picture with `factor` times the width and height and the same channels. */
  upscale(pixels: Pixels, factor: Factor, signal: AbortSignal): Promise<Pixels>;
}

/**
 * Cubic convolution (Keys, IEEE Trans. ASSP 29, 1981) and a mild sharpening of 3 x 3 pixels, on the CPU and off the
 * event loop. sharp's `resize` would be shorter, but enlarging it moves the picture by half a pixel of the result, which
 * costs some 2 dB of likeness at x2, and it knows no Lanczos in that direction. Pictures with alpha stay as they are
 * interpolated: sharpening lightens the colours along their cut edges.
 */
const bicubic: Upscaler = {
  async upscale({ data, width, height, channels }, factor, signal) {
    const padded = await sharp(data, { raw: { width, height, channels } })
      .extend({ top: MARGIN, bottom: MARGIN, left: MARGIN, right: MARGIN, extendWith: "copy" })
      .raw()
      .toBuffer({ resolveWithObject: true });
    signal.throwIfAborted();
    const shift = (factor - 1) / 2; // from the corner of a source pixel's area to its centre
    const { info } = padded;
    const interpolated = sharp(padded.data, { raw: { width: info.width, height: info.height, channels } }).affine(
      [factor, 0, 0, factor],
      { interpolator: "bicubic", odx: shift, ody: shift },
    );
    const enlarged = await (channels === 4 ? interpolated : interpolated.sharpen())
      .raw()
      .toBuffer({ resolveWithObject: true });
    signal.throwIfAborted();
    const size = { width: width * factor, height: height * factor };
    const cropped = await sharp(enlarged.data, {
      raw: { width: enlarged.info.width, height: enlarged.info.height, channels },
    })
      .extract({ left: MARGIN * factor, top: MARGIN * factor, ...size })
      .raw()
      .toBuffer();
    return { data: cropped, ...size, channels };
  },
};

/** A WebP of 8 x 6 pixels for the smoke run. */
const EXAMPLE = "UklGRioAAABXRUJQVlA4TB4AAAAvB0ABALmM6H/sIqL/ASEB4ZP/7yQLhmQAYwKQWjY=";

const superres = (factor: Factor) => {
  const pixelsMax = OUTPUT_PIXELS_MAX / factor ** 2;
  return defineRunner({
    name: `superres-x${factor}`,
    version: "1.0.0",
    summary: `Enlarges a picture ${factor} times; answers a PNG.`,
    input: imageInput({ pixelsMax }),
    output: t.Object({
      image: file("image/png"),
      size: t.Tuple([t.Integer({ minimum: 1 }), t.Integer({ minimum: 1 })], { description: "Width and height" }),
    }),
    example: { image_base64: EXAMPLE },
    load: () => bicubic,
    prepare: async (input, ctx) => {
      const image = await ctx.image(input);
      ctx.signal.throwIfAborted();
      const pixels = await decodePixels(image, { pixelsMax });
      ctx.progress(0.2, "decoded");
      return pixels;
    },
    infer: async (pixels, ctx) => {
      const enlarged = await ctx.state.upscale(pixels, factor, ctx.signal);
      ctx.progress(0.6, "enlarged");
      return enlarged;
    },
    postprocess: async ({ data, width, height, channels }, ctx) => {
      // Row filters and light compression: within 10% of the smallest file in half the time.
      const png = await sharp(data, { raw: { width, height, channels } })
        .png({ compressionLevel: 3, adaptiveFiltering: true })
        .toBuffer();
      ctx.progress(1, "encoded");
      return { image: ctx.file(png, "image/png"), size: [width, height] as [number, number] };
    },
  });
};

export default [superres(2), superres(4)];
