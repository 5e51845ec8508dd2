// Enlarges a picture two or four times. The host calls it for tasks of the models `superres-x2` and `superres-x4`; the
// answer is a PNG of exactly twice or four times the size. It must never decode a picture whose enlargement would
// exceed OUTPUT_PIXELS_MAX.
import { decodePixels, defineRunner, file, imageInput, type Pixels, t } from "millrace";
import sharp from "sharp";

/** 100 megapixels: 400 MB of pixels at most while they are encoded, and a PNG that viewers still open. */
const OUTPUT_PIXELS_MAX = 100_000_000;

type Factor = 2 | 4;

/**
 * What enlarges. `load` makes one for the life of the process: a model that runs on the GPU takes Lanczos' place there,
 * puts its weights on `ctx.gpu` and answers `upscale` in the same shape.
 */
interface Upscaler {
  /** The same picture with `factor` times the width and height and the same channels. */
  upscale(pixels: Pixels, factor: Factor): Promise<Pixels>;
}

/**
 * Resampling with Lanczos' window of three lobes (Turkowski, "Filters for Common Resampling Tasks", 1990) and a mild
 * sharpening of 3 x 3 pixels, on the CPU. Alpha is premultiplied meanwhile, so that edges of cut-outs get no fringe.
 */
const lanczos: Upscaler = {
  async upscale({ data, width, height, channels }, factor) {
    const size = { width: width * factor, height: height * factor };
    const enlarged = await sharp(data, { raw: { width, height, channels } })
      .resize({ ...size, fit: "fill", kernel: "lanczos3" })
      .sharpen()
      .raw()
      .toBuffer();
    return { data: enlarged, ...size, channels };
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
    load: () => lanczos,
    prepare: async (input, ctx) => {
      const image = await ctx.image(input);
      ctx.signal.throwIfAborted();
      const pixels = await decodePixels(image, { pixelsMax });
      ctx.progress(0.2, "decoded");
      return pixels;
    },
    infer: async (pixels, ctx) => {
      const enlarged = await ctx.state.upscale(pixels, factor);
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
