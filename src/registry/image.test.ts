import { describe, expect, test } from "bun:test";
import { crc32, deflateSync } from "node:zlib";
import sharp, { type Sharp } from "sharp";
import { AppError } from "../errors.ts";
import type { FetchedBytes } from "../net/fetch-input.ts";
import { fetchInput } from "../net/fetch-input.ts";
import { type DecodedImage, decodePixels, type ImageInput, imageInput, readImage } from "./image.ts";
import { compileSchema } from "./schema.ts";

const noFetch = (): Promise<FetchedBytes> => Promise.reject(new Error("nothing is fetched here"));
const noFile = (): Promise<Uint8Array> => Promise.reject(new Error("no file is read here"));
const nothing = { fetch: noFetch, readFile: noFile };
const base64 = (bytes: Uint8Array): ImageInput => ({ image_base64: Buffer.from(bytes).toString("base64") });
const read = (bytes: Uint8Array, limits = {}): Promise<DecodedImage> =>
  readImage(base64(bytes), { ...nothing, ...limits });

/** 64 x 48: left half red, right half blue, with noise so that no format makes it trivial. */
function picture(): Sharp {
  const data = Buffer.alloc(64 * 48 * 3);
  for (let i = 0; i < 64 * 48; i++)
    data.set(i % 64 < 32 ? [200 + (i % 50), i % 40, 10] : [10, i % 40, 200 + (i % 50)], i * 3);
  return sharp(data, { raw: { width: 64, height: 48, channels: 3 } });
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const frame = Buffer.alloc(8);
  frame.writeUInt32BE(data.length, 0);
  frame.writeUInt32BE(crc32(body), 4);
  return Buffer.concat([frame.subarray(0, 4), body, frame.subarray(4)]);
}

/** A PNG that declares any size over any content. */
function png(width: number, height: number, ...chunks: Buffer[]): Buffer {
  const header = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0]);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  const signature = Buffer.from("\x89PNG\r\n\x1a\n", "latin1");
  return Buffer.concat([signature, chunk("IHDR", header), ...chunks, chunk("IEND", Buffer.alloc(0))]);
}

/** The code a promise fails with; its message must hold neither input nor a decoder's words. */
async function codeOf(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => null,
    (failure: unknown) => failure,
  );
  expect(error).toBeInstanceOf(AppError);
  if (!(error instanceof AppError)) return "";
  expect(error.message).not.toMatch(/vips|libpng|buffer|secret|iVBOR/i);
  return error.code;
}

describe("imageInput", () => {
  const check = compileSchema(imageInput({ pixelsMax: 6_250_000 }));

  test("takes a URL or base64, and exactly one of them", () => {
    expect(check({ image_url: "https://example.com/a.png" })).toEqual([]);
    expect(check({ image_base64: "AAAA" })).toEqual([]);
    const refused = [
      {},
      { image_url: "https://example.com/", image_base64: "AAAA" },
      { file_id: "x" },
      { file_id: "file-../../etc/passwd0000000000" },
      { image_base64: "" },
    ];
    for (const input of [...refused, { image_url: 1 }, { image_url: `https://e.com/${"a".repeat(2_048)}` }, null]) {
      expect(check(input)).not.toEqual([]);
    }
  });

  test("the format public-url is what the host says it is", () => {
    const strict = compileSchema(imageInput(), { formats: { "public-url": (url) => url.startsWith("https:") } });
    expect(strict({ image_url: "https://example.com/" })).toEqual([]);
    expect(strict({ image_url: "http://example.com/" })).toHaveLength(1);
  });

  test("tells its limit", () => {
    expect(imageInput({ pixelsMax: 6_250_000 }).description).toContain("at most 6.25 megapixels");
    expect(imageInput().description).toContain("at most 40 megapixels");
  });
});

describe("readImage", () => {
  test.each(["png", "jpeg", "webp"] as const)("reads the header of a %s", async (format) => {
    const bytes = await picture().toFormat(format).toBuffer();
    expect(await read(bytes)).toEqual({ bytes, format, width: 64, height: 48 });
  });

  test("sizes are as shown: EXIF orientation turns them", async () => {
    for (const [orientation, size] of [
      [1, [64, 48]],
      [3, [64, 48]],
      [6, [48, 64]],
      [8, [48, 64]],
    ] as const) {
      const image = await read(await picture().withMetadata({ orientation }).jpeg().toBuffer());
      expect([image.width, image.height]).toEqual([...size]);
    }
  });

  test("from a URL, by a real server", async () => {
    const bytes = await picture().png().toBuffer();
    const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response(bytes) });
    try {
      const fetch = (url: string): Promise<FetchedBytes> => fetchInput(url, { allowHosts: ["127.0.0.1"] });
      const image = await readImage({ image_url: `http://127.0.0.1:${server.port}/a.gif` }, { ...nothing, fetch });
      expect(image.format).toBe("png");
      expect(image.width).toBe(64);
    } finally {
      await server.stop(true);
    }
  });

  test("base64 is strict", async () => {
    const text = (await picture().png().toBuffer()).toString("base64");
    const spoiled = [
      `data:image/png;base64,${text}`,
      `${text.slice(0, 76)}\n${text.slice(76)}`,
      ` ${text}`,
      text.slice(0, -1),
      `${text.slice(0, 40)}*${text.slice(41)}`,
      `${text.slice(0, 40)}_${text.slice(41)}`,
      `${text}=`,
      "====",
      "secret words",
      "é€😀=",
    ];
    for (const image_base64 of spoiled) {
      const reading = readImage({ image_base64 }, nothing);
      expect(await codeOf(reading)).toBe("image_unreadable");
      expect(await reading.catch((error) => error.message)).toContain("base64");
    }
    expect(await codeOf(readImage({}, nothing))).toBe("invalid_input");
    const message = await readImage({ image_base64: spoiled[0] ?? "" }, nothing).catch((error) => error.message);
    expect(message).toContain("data: prefix");
  });

  test("only PNG, JPEG and WebP, by their first bytes", async () => {
    const gif = await picture().gif().toBuffer();
    const svg = Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>');
    const tiff = await picture().tiff().toBuffer();
    const header = (text: string): Buffer => Buffer.from(text, "latin1");
    const fakes = [
      header("\x89PNG\r\n\x1a\n"),
      header("\xff\xd8\xff\xe0"),
      header("RIFF1234WEBP"),
      header("RIFF1234WAVE"),
    ];
    for (const bytes of [gif, svg, tiff, header("%PDF-1.7"), header("secret"), ...fakes]) {
      expect(await codeOf(read(bytes))).toBe("image_unreadable");
    }
  });

  test("a PNG that declares 50000 x 50000 is refused from its header, at once and without memory", async () => {
    const bomb = png(50_000, 50_000, chunk("IDAT", deflateSync(Buffer.alloc(20_000_000))));
    await codeOf(read(bomb)); // loads the library
    const rss = process.memoryUsage.rss();
    const began = performance.now();
    expect(await codeOf(read(bomb))).toBe("image_too_large");
    expect(performance.now() - began).toBeLessThan(100); // 3 ms on a quiet machine; decoding it takes seconds
    expect(process.memoryUsage.rss() - rss).toBeLessThan(50_000_000);
  });

  test("a text chunk that unpacks to 200 MB costs no memory either", async () => {
    const text = Buffer.concat([Buffer.from("Comment\0\0"), deflateSync(Buffer.alloc(200_000_000))]);
    const pixels = chunk("IDAT", deflateSync(Buffer.alloc(2 * 7)));
    const rss = process.memoryUsage.rss();
    expect(await read(png(2, 2, chunk("zTXt", text), pixels))).toMatchObject({ width: 2, height: 2 });
    expect(process.memoryUsage.rss() - rss).toBeLessThan(100_000_000);
  });

  test("limits on pixels, sides and bytes are inclusive", async () => {
    const bytes = await picture().png().toBuffer();
    expect(await read(bytes, { pixelsMax: 64 * 48, sideMax: 64, bytesMax: bytes.length })).toMatchObject({ width: 64 });
    for (const limit of [{ pixelsMax: 64 * 48 - 1 }, { sideMax: 63 }, { bytesMax: bytes.length - 1 }]) {
      expect(await codeOf(read(bytes, limit))).toBe("image_too_large");
    }
    expect(await codeOf(read(png(8_193, 1)))).toBe("image_too_large");
    expect(await codeOf(read(png(1, 8_193)))).toBe("image_too_large");
    expect(await codeOf(read(png(8_000, 5_001)))).toBe("image_too_large");
    const fetch = async (): Promise<FetchedBytes> => ({ bytes, contentType: "", url: "" });
    const tooManyBytes = readImage(
      { image_url: "https://example.com/" },
      { ...nothing, fetch, bytesMax: bytes.length - 1 },
    );
    expect(await codeOf(tooManyBytes)).toBe("image_too_large");
  });
});

describe("decodePixels", () => {
  const pixelAt = async (bytes: Uint8Array, x: number, y: number): Promise<number[]> => {
    const pixels = await decodePixels(await read(bytes));
    const at = (y * pixels.width + x) * pixels.channels;
    return [...pixels.data.subarray(at, at + pixels.channels)];
  };

  test("pixels of a PNG are exact; alpha is kept", async () => {
    const raw = await picture().raw().toBuffer();
    const pixels = await decodePixels(await read(await picture().png().toBuffer()));
    expect(pixels).toEqual({ data: raw, width: 64, height: 48, channels: 3 });
    const clear = await picture().ensureAlpha(0.5).png().toBuffer();
    expect(await pixelAt(clear, 0, 0)).toEqual([200, 0, 10, 127]);
  });

  test("upright: all eight orientations show red where the viewer shows it", async () => {
    const corner = {
      1: "left",
      2: "right",
      3: "right",
      4: "left",
      5: "top",
      6: "top",
      7: "bottom",
      8: "bottom",
    } as const;
    for (const [orientation, side] of Object.entries(corner)) {
      const bytes = await picture()
        .withMetadata({ orientation: Number(orientation) })
        .jpeg({ quality: 95 })
        .toBuffer();
      const { width, height } = await read(bytes);
      const at = {
        left: [2, height / 2],
        right: [width - 3, height / 2],
        top: [width / 2, 2],
        bottom: [width / 2, height - 3],
      };
      const [red = 0, , blue = 0] = await pixelAt(bytes, at[side][0] ?? 0, at[side][1] ?? 0);
      expect(red).toBeGreaterThan(150);
      expect(blue).toBeLessThan(100);
    }
  });

  test("grey, 16 bit, palette, CMYK and wide-gamut pictures come out as 8-bit sRGB", async () => {
    const variants = [
      picture().toColourspace("b-w").png(),
      picture().toColourspace("b-w").jpeg(),
      picture().toColourspace("rgb16").png(),
      picture().png({ palette: true }),
      picture().toColourspace("cmyk").jpeg(),
      picture().withIccProfile("p3").png(),
    ];
    for (const variant of variants) {
      const pixels = await decodePixels(await read(await variant.toBuffer()));
      expect(pixels.channels).toBe(3);
      expect(pixels.data).toHaveLength(64 * 48 * 3);
    }
    expect((await sharp(await picture().toColourspace("b-w").png().toBuffer()).metadata()).channels).toBe(1);
    const wide = await picture().withIccProfile("p3").png().toBuffer();
    const [red = 0, , blue = 0] = await pixelAt(wide, 0, 0);
    expect(Math.abs(red - 200)).toBeLessThan(5);
    expect(blue).toBeLessThan(25);
  });

  test("of an animation the first frame", async () => {
    const frames = Buffer.concat([Buffer.alloc(300, 250), Buffer.alloc(300, 5)]);
    const animation = sharp(frames, { raw: { width: 10, height: 20, channels: 3, pageHeight: 10 } });
    const bytes = await animation.webp({ lossless: true, delay: [100, 100] }).toBuffer();
    expect((await sharp(bytes).metadata()).pages).toBe(2);
    expect(await read(bytes)).toMatchObject({ width: 10, height: 10 });
    expect(await pixelAt(bytes, 5, 5)).toEqual([250, 250, 250]);
  });

  test("a file that is cut short or damaged is unreadable, wherever the cut", async () => {
    for (const format of ["png", "jpeg", "webp"] as const) {
      const bytes = await picture().toFormat(format).toBuffer();
      for (const part of [0.2, 0.5, 0.9, 0.95]) {
        const cut = bytes.subarray(0, Math.floor(bytes.length * part));
        expect(await codeOf(read(cut).then((image) => decodePixels(image)))).toBe("image_unreadable");
      }
    }
    const flipped = await picture().png().toBuffer();
    flipped[200] = (flipped[200] ?? 0) ^ 0xff;
    expect(await codeOf(decodePixels(await read(flipped)))).toBe("image_unreadable");
    expect(await codeOf(read(png(9, 9)))).toBe("image_unreadable");
    const empty = await read(png(9, 9, chunk("IDAT", Buffer.alloc(0))));
    expect(await codeOf(decodePixels(empty))).toBe("image_unreadable");
  });

  test("refuses before decoding what exceeds the runner's own limit", async () => {
    const image = await read(png(2_501, 2_500, chunk("IDAT", Buffer.alloc(0)))); // no pixels: decoding it would say unreadable
    expect(await codeOf(decodePixels(image, { pixelsMax: 6_250_000 }))).toBe("image_too_large");
  });
});
