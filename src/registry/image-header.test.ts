import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import sharp, { type Sharp } from "sharp";
import { readImageHeader } from "./image-header.ts";

const plain = (width: number, height: number, channels: 3 | 4): Sharp =>
  sharp({ create: { width, height, channels, background: { r: 200, g: 30, b: 90, alpha: 0.5 } } });

const side = fc.integer({ min: 1, max: 700 });

describe("readImageHeader", () => {
  test("agrees with the decoder on every kind of file", async () => {
    const kinds: ((picture: Sharp) => Sharp)[] = [
      (picture) => picture.png(),
      (picture) => picture.png({ progressive: true, palette: true }),
      (picture) => picture.jpeg(),
      (picture) => picture.jpeg({ progressive: true }).withMetadata({ orientation: 6 }).withIccProfile("p3"),
      (picture) => picture.webp(),
      (picture) => picture.webp({ lossless: true }),
      (picture) => picture.webp().withMetadata({ orientation: 6 }),
    ];
    await fc.assert(
      fc.asyncProperty(
        side,
        side,
        fc.constantFrom<(3 | 4)[]>(3, 4),
        fc.nat(kinds.length - 1),
        async (w, h, channels, kind) => {
          const bytes = await (kinds[kind] ?? ((picture) => picture))(plain(w, h, channels)).toBuffer();
          const { format, width, height } = await sharp(bytes).metadata();
          expect<unknown>(readImageHeader(bytes)).toEqual({ format, width, height });
        },
      ),
      { numRuns: 60 },
    );
  });

  test("a cut or damaged file gives a header or null, never a throw, and in time", async () => {
    const files = await Promise.all([
      plain(300, 200, 3).png().toBuffer(),
      plain(300, 200, 3).jpeg().toBuffer(),
      plain(300, 200, 4).webp().toBuffer(),
    ]);
    fc.assert(
      fc.property(fc.constantFrom(...files), fc.nat(400), fc.nat(400), fc.nat(255), (file, cut, at, value) => {
        const bytes = Buffer.from(file.subarray(0, cut));
        if (at < bytes.length) bytes[at] = value;
        const header = readImageHeader(bytes);
        if (header !== null) expect(Math.min(header.width, header.height)).toBeGreaterThan(0);
      }),
      { numRuns: 2_000 },
    );
    const began = performance.now();
    for (const value of [0xff, 0x00, 0xd0]) {
      const jpeg = Buffer.alloc(10_000_000, value);
      jpeg.set([0xff, 0xd8, 0xff]);
      expect(readImageHeader(jpeg)).toBeNull();
    }
    expect(performance.now() - began).toBeLessThan(1_000);
  });

  test("finds the frame of a JPEG behind fill bytes, tables, comments and segments of no length", () => {
    const jpeg = (...segments: number[]): Buffer =>
      Buffer.from([0xff, 0xd8, ...segments, 0xff, 0xc2, 0, 11, 8, 1, 2, 3, 4, 1, 0, 0]);
    const found = { format: "jpeg", width: 0x0304, height: 0x0102 } as const;
    expect(readImageHeader(jpeg(0xff, 0xe0, 0, 4, 0xff, 0xc0))).toEqual(found);
    expect(readImageHeader(jpeg(0xff, 0xff, 0xff, 0xfe, 0, 2))).toEqual(found);
    expect(readImageHeader(jpeg(0xff, 0xc4, 0, 9, 9, 9, 9, 9, 9, 9, 9))).toEqual(found);
    expect(readImageHeader(jpeg(0xff, 0xe1, 0, 0, 0xff, 0x01))).toBeNull();
    expect(readImageHeader(jpeg(0xff, 0xe1, 0xff, 0xff))).toBeNull();
  });

  test("the scale bits of a lossy WebP are no part of its size", () => {
    const webp = Buffer.concat([Buffer.from("RIFF\x16\0\0\0WEBPVP8 \x0a\0\0\0", "latin1"), Buffer.alloc(10)]);
    webp.writeUInt16LE(0x4000 | 300, 26);
    webp.writeUInt16LE(0xc000 | 200, 28);
    expect(readImageHeader(webp)).toEqual({ format: "webp", width: 300, height: 200 });
  });

  test("sees a size beyond any limit in the first bytes alone", () => {
    const png = Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "latin1"), Buffer.alloc(8)]);
    png.writeUInt32BE(50_000, 16);
    png.writeUInt32BE(0xffffffff, 20);
    expect(readImageHeader(png)).toEqual({ format: "png", width: 50_000, height: 0xffffffff });
    png.writeUInt32BE(0, 20);
    expect(readImageHeader(png)).toBeNull();
    expect(readImageHeader(new Uint8Array())).toBeNull();
  });
});
