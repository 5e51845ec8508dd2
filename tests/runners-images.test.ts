// The picture runners on real pictures: what they promise of sizes, pixels and scores, measured on the pixels.
import { describe, expect, test } from "bun:test";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import sharp, { type Sharp } from "sharp";
import scoring from "../runners/image-scoring.ts";
import superres from "../runners/superres.ts";
import { RunnerError } from "../src/registry/define.ts";
import { testRunner } from "../src/testing.ts";

const photo = await Bun.file(fileURLToPath(new URL("../examples/cat.jpg", import.meta.url))).bytes();
const asInput = (bytes: Uint8Array): { image_base64: string } => ({
  image_base64: Buffer.from(bytes).toString("base64"),
});
const [x2, x4] = superres;
if (!x2 || !x4) throw new Error("superres has two definitions");
const runnerOf = { 2: x2, 4: x4 } as const;

/** A PNG of any declared size without pixels. */
function emptyPng(width: number, height: number): Uint8Array {
  const png = Buffer.from("\x89PNG\r\n\x1a\n\0\0\0\rIHDR00000000\x08\x02\0\0\0", "latin1");
  png.writeUInt32BE(width, 16);
  png.writeUInt32BE(height, 20);
  const crc = Buffer.alloc(4);
  crc.writeUInt32BE(Bun.hash.crc32(png.subarray(12, 29)));
  return Buffer.concat([png, crc, Buffer.from("\0\0\0\0IDAT\x35\xaf\x06\x1e\0\0\0\0IEND\xae\x42\x60\x82", "latin1")]);
}

/** Gaussian noise from a fixed seed, so that a failure is the same failure again. */
function gaussian(seed: number): () => number {
  let state = seed;
  const uniform = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state + 1) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  const error = await work.catch((failure: unknown) => failure);
  expect(error).toBeInstanceOf(RunnerError);
  if (!(error instanceof RunnerError)) return "";
  expect(error.retryable).toBe(false);
  return error.code;
}

describe("superres", () => {
  async function enlarged(bytes: Uint8Array, factor: 2 | 4): Promise<{ png: Uint8Array; size: number[] }> {
    const { output, files } = await testRunner(runnerOf[factor], { input: asInput(bytes) });
    expect(files).toHaveLength(1);
    const [file] = files;
    expect(file?.file.contentType).toBe("image/png");
    return { png: file?.file.bytes ?? new Uint8Array(), size: (output as { size: number[] }).size };
  }

  /** Peak signal-to-noise ratio of two pictures of a size, in dB: 30 and more looks the same. */
  async function psnr(a: Sharp, b: Sharp): Promise<number> {
    const [left, right] = await Promise.all([a, b].map((picture) => picture.removeAlpha().raw().toBuffer()));
    if (!left || !right || left.length !== right.length) throw new Error("two pictures of one size");
    const squares = left.reduce((sum, value, i) => sum + (value - (right[i] ?? 0)) ** 2, 0);
    return 10 * Math.log10(255 ** 2 / (squares / left.length));
  }

  for (const factor of [2, 4] as const) {
    test(`x${factor}: exactly that size, and reduced again the same picture, not turned or mirrored`, async () => {
      const { png, size } = await enlarged(photo, factor);
      expect(size).toEqual([451 * factor, 300 * factor]);
      const { format, width, height, channels } = await sharp(png).metadata();
      expect([format, width, height, channels]).toEqual(["png", ...size, 3] as never);
      const back = (): Sharp => sharp(png).resize(451, 300, { fit: "fill" });
      expect(await psnr(back(), sharp(photo))).toBeGreaterThan(30);
      for (const other of [back().flip(), back().flop(), back().rotate(180)]) {
        const turned = sharp(await other.png().toBuffer());
        expect(await psnr(turned, sharp(photo))).toBeLessThan(20);
      }
    });
  }

  test("it is no copy of pixels: a real enlargement resembles the original more than its blocks do", async () => {
    const small = await sharp(photo).resize(225, 150, { fit: "fill" }).png().toBuffer();
    const { png } = await enlarged(small, 2);
    const original = (): Sharp => sharp(photo).resize(450, 300, { fit: "fill" });
    const blocks = sharp(small).resize(450, 300, { kernel: "nearest" });
    const likeness = await psnr(sharp(png), original());
    expect(likeness).toBeGreaterThan((await psnr(blocks, original())) + 1);
    expect(likeness).toBeGreaterThan(35.25); // 35.32; 35.18 without sharpening, 32.3 when moved by half a pixel
  });

  test("any size and channels: exactly two and four times the size, alpha kept", async () => {
    const side = fc.integer({ min: 1, max: 60 });
    await fc.assert(
      fc.asyncProperty(
        side,
        side,
        fc.constantFrom<(3 | 4)[]>(3, 4),
        fc.constantFrom<(2 | 4)[]>(2, 4),
        async (width, height, channels, factor) => {
          const background = { r: 200, g: 100, b: 50, alpha: 0.5 };
          const bytes = await sharp({ create: { width, height, channels, background } }).png().toBuffer();
          const { png, size } = await enlarged(bytes, factor);
          const { data, info } = await sharp(png).raw().toBuffer({ resolveWithObject: true });
          expect(size).toEqual([width * factor, height * factor]);
          expect([info.width, info.height, info.channels]).toEqual([...size, channels] as never);
          const middle = [...data.subarray(0, channels)];
          const wanted = [200, 100, 50, 128].slice(0, channels);
          for (const [i, value] of middle.entries()) expect(Math.abs(value - (wanted[i] ?? 0))).toBeLessThanOrEqual(2);
        },
      ),
      { numRuns: 25 },
    );
  });

  test("nothing moves: a ramp stays on its line, and its ends are the picture's own", async () => {
    for (const factor of [2, 4] as const) {
      const level = (x: number): number => 40 + 8 * x;
      const ramp = Uint8Array.from({ length: 20 * 20 * 3 }, (_, i) => level(Math.floor(i / 3) % 20));
      const picture = sharp(ramp, { raw: { width: 20, height: 20, channels: 3 } });
      for (const turn of [0, 90, 180, 270]) {
        const { png } = await enlarged(await picture.clone().rotate(turn).png().toBuffer(), factor);
        const upright = await sharp(png)
          .rotate(360 - turn)
          .removeAlpha()
          .raw()
          .toBuffer();
        for (let x = 0; x < 20 * factor; x++) {
          const ideal = level(Math.max(0, Math.min(19, (x + 0.5) / factor - 0.5)));
          const row = 10 * factor * 20 * factor;
          expect(Math.abs((upright[(row + x) * 3] ?? 0) - ideal)).toBeLessThanOrEqual(2);
        }
      }
    }
  });

  test("a cut-out gets no fringe of the colour that is transparent", async () => {
    const half = (x: number): number[] => (x < 8 ? [200, 0, 0, 255] : [0, 0, 255, 0]);
    const bytes = Uint8Array.from({ length: 16 * 16 }, (_, i) => i).reduce<number[]>(
      (all, i) => all.concat(half(i % 16)),
      [],
    );
    const picture = sharp(Uint8Array.from(bytes), { raw: { width: 16, height: 16, channels: 4 } });
    const { png } = await enlarged(await picture.png().toBuffer(), 4);
    const data = await sharp(png).raw().toBuffer();
    for (let i = 0; i < data.length; i += 4) {
      if ((data[i + 3] ?? 0) <= 8) continue;
      expect(Math.abs((data[i] ?? 0) - 200)).toBeLessThan(8);
      expect(data[i + 2]).toBeLessThan(8);
    }
  });

  test("EXIF orientation is applied", async () => {
    const upright = await sharp(photo).rotate(90).jpeg({ quality: 95 }).toBuffer();
    const tagged = await sharp(photo).withMetadata({ orientation: 6 }).jpeg({ quality: 95 }).toBuffer();
    const [a, b] = [await enlarged(upright, 2), await enlarged(tagged, 2)];
    expect(b.size).toEqual([600, 902]);
    expect(await psnr(sharp(a.png), sharp(b.png))).toBeGreaterThan(30);
    expect((await sharp(b.png).metadata()).orientation).toBeUndefined();
  });

  test("refuses, from the header, what would become more than 100 megapixels", async () => {
    expect(await codeOf(testRunner(x4, { input: asInput(emptyPng(2_501, 2_500)) }))).toBe("image_too_large");
    expect(await codeOf(testRunner(x2, { input: asInput(emptyPng(5_001, 5_000)) }))).toBe("image_too_large");
    expect(await codeOf(testRunner(x4, { input: asInput(emptyPng(2_500, 2_500)) }))).toBe("image_unreadable");
    expect(await codeOf(testRunner(x2, { input: asInput(emptyPng(50_000, 50_000)) }))).toBe("image_too_large");
  });

  test("a damaged picture, another format, two pictures", async () => {
    expect(await codeOf(testRunner(x2, { input: asInput(photo.subarray(0, 20_000)) }))).toBe("image_unreadable");
    expect(await codeOf(testRunner(x2, { input: asInput(Buffer.from("<svg/>")) }))).toBe("image_unreadable");
    const both = { ...asInput(photo), image_url: "https://example.com/cat.jpg" };
    expect(await codeOf(testRunner(x2, { input: both }))).toBe("invalid_input");
  });

  test("from a URL; progress only rises", async () => {
    const url = "https://example.com/cat.jpg";
    const { output, progress } = await testRunner(x2, { input: { image_url: url }, files: { [url]: photo } });
    expect(output).toEqual({ size: [902, 600] });
    const fractions = progress.map(({ fraction }) => fraction);
    expect(fractions).toEqual([...fractions].sort((a, b) => a - b));
    expect(fractions.at(-1)).toBe(1);
  });
});

describe("image-scoring", () => {
  type Scores = Record<"score" | "sharpness" | "exposure" | "contrast" | "colourfulness" | "noise", number> & {
    width: number;
    height: number;
  };
  const scoresOf = async (picture: Sharp | Uint8Array): Promise<Scores> => {
    const bytes = picture instanceof Uint8Array ? picture : await picture.png().toBuffer();
    return (await testRunner(scoring, { input: asInput(bytes) })).output as Scores;
  };
  const plain = (r: number, g: number, b: number): Sharp =>
    sharp({ create: { width: 64, height: 64, channels: 3, background: { r, g, b } } });
  /** 256 x 256 of a grey level per pixel. */
  const grey = (level: (x: number, y: number) => number): Sharp => {
    const values = Uint8Array.from({ length: 256 * 256 }, (_, i) =>
      Math.max(0, Math.min(255, Math.round(level(i % 256, i >> 8)))),
    );
    return sharp(values, { raw: { width: 256, height: 256, channels: 1 } });
  };

  test("a photograph: its size, scores from 0 to 100 with one decimal, the same every time", async () => {
    const scores = await scoresOf(photo);
    expect([scores.width, scores.height]).toEqual([451, 300]);
    for (const value of Object.values(scores)) expect(value).toBe(Math.round(value * 10) / 10);
    const { width: _w, height: _h, ...values } = scores;
    for (const value of Object.values(values)) {
      expect(value).toBeGreaterThanOrEqual(0);
      expect(value).toBeLessThanOrEqual(100);
    }
    expect(await scoresOf(photo)).toEqual(scores);
  });

  test("sharpness falls with every step of blur", async () => {
    const steps = [sharp(photo), ...[0.6, 1, 2, 4].map((sigma) => sharp(photo).blur(sigma))];
    const values: number[] = [];
    for (const step of steps) values.push((await scoresOf(step)).sharpness);
    expect(values).toEqual([...values].sort((a, b) => b - a));
    expect((values[0] ?? 0) - (values[2] ?? 0)).toBeGreaterThan(20);
    expect(values.at(-1)).toBeLessThan(2);
  });

  test("the noise score is that of the noise put in: 100 exp(-σ / 10)", async () => {
    for (const sigma of [0, 2, 5, 10, 20]) {
      const next = gaussian(sigma + 1);
      const { noise } = await scoresOf(grey(() => 128 + sigma * next()));
      expect(Math.abs(noise - 100 * Math.exp(-sigma / 10))).toBeLessThan(2);
    }
    expect((await scoresOf(grey((x) => x))).noise).toBe(100); // a ramp is no noise
  });

  test("colourfulness: 0 for grey, the paper's value for plain red, falling with saturation", async () => {
    expect((await scoresOf(sharp(photo).greyscale())).colourfulness).toBe(0);
    const red = 100 * ((0.3 * Math.hypot(255, 127.5)) / 109);
    expect((await scoresOf(plain(255, 0, 0))).colourfulness).toBeCloseTo(red, 1);
    const { colourfulness } = await scoresOf(photo);
    expect((await scoresOf(sharp(photo).modulate({ saturation: 0.4 }))).colourfulness).toBeLessThan(colourfulness);
    expect((await scoresOf(sharp(photo).modulate({ saturation: 1.6 }))).colourfulness).toBeGreaterThan(colourfulness);
  });

  test("exposure falls towards black and towards white, and with clipping", async () => {
    const { exposure } = await scoresOf(photo);
    for (const spoiled of [sharp(photo).linear(0.3), sharp(photo).linear(1, 120), sharp(photo).linear(4, -250)]) {
      expect((await scoresOf(spoiled)).exposure).toBeLessThan(exposure - 20);
    }
    expect((await scoresOf(plain(0, 0, 0))).exposure).toBe(0);
    expect((await scoresOf(plain(255, 255, 255))).exposure).toBe(0);
    expect((await scoresOf(plain(128, 128, 128))).exposure).toBeGreaterThan(99);
    const halves = await scoresOf(grey((x) => (x < 128 ? 0 : 255))); // a good mean, all of it clipped
    expect(halves.exposure).toBe(0);
    expect(halves.contrast).toBe(100);
  });

  test("contrast is the standard deviation of brightness", async () => {
    const { contrast } = await scoresOf(photo);
    expect((await scoresOf(sharp(photo).linear(0.5, 64))).contrast).toBeCloseTo(contrast / 2, -0.5);
    const wave = await scoresOf(grey((x) => 128 + 32 * Math.sin((2 * Math.PI * x) / 64)));
    expect(wave.contrast).toBeCloseTo((100 * 32) / Math.SQRT2 / 255 / 0.25, 0);
    expect((await scoresOf(plain(90, 90, 90))).contrast).toBe(0);
  });

  test("a larger version of a picture scores alike", async () => {
    const [small, large] = [await scoresOf(sharp(photo).resize(902)), await scoresOf(sharp(photo).resize(1_804))];
    for (const name of ["score", "sharpness", "exposure", "contrast", "colourfulness", "noise"] as const) {
      expect(Math.abs(small[name] - large[name])).toBeLessThan(5);
    }
    expect([small.width, large.width]).toEqual([902, 1_804]);
    const [wide, same] = [sharp(photo).resize(1_024, 256), sharp(photo).resize(512, 128)];
    expect(Math.abs((await scoresOf(wide)).sharpness - (await scoresOf(same)).sharpness)).toBeLessThan(5);
  });

  test("transparent is white, one pixel is a picture", async () => {
    const halves = (...right: number[]): Sharp => {
      const pixels = Array.from({ length: 64 * 64 }, (_, i) => (i % 64 < 32 ? [90, 90, 90, 255] : right));
      return sharp(Uint8Array.from(pixels.flat()), { raw: { width: 64, height: 64, channels: 4 } });
    };
    expect(await scoresOf(halves(9, 9, 9, 0))).toEqual(await scoresOf(halves(255, 255, 255, 255)));
    expect((await scoresOf(plain(128, 128, 128).resize(1, 1))).sharpness).toBe(0);
    expect((await scoresOf(plain(128, 128, 128).resize(3_000, 1))).width).toBe(3_000);
  });

  test("refuses what is no picture", async () => {
    expect(await codeOf(testRunner(scoring, { input: asInput(Buffer.from("GIF89a")) }))).toBe("image_unreadable");
    expect(await codeOf(testRunner(scoring, { input: asInput(emptyPng(7_000, 6_000)) }))).toBe("image_too_large");
  });
});
