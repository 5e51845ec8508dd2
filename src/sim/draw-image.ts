// A small real PNG for a prompt: a gradient with shapes in colours that the prompt names or its hash picks. The prompt
// travels in the file, so that the simulator can later say what the picture shows. It never draws more than asked.
import { crc32, deflateSync } from "node:zlib";
import { createRng, drawInteger, type Rng } from "./rng.ts";

export interface ImageOptions {
  /** Pixels, 1 to IMAGE_SIDE_MAX. */
  readonly width: number;
  readonly height: number;
  /** Another seed, another picture of the same prompt: the index of `n`, with the request's seed. */
  readonly seed: string;
  /** The longer side in cells of one colour, at most CELLS_MAX: fewer are a coarser view of the same picture. */
  readonly cells?: number;
}

export const IMAGE_SIDE_MAX = 4096;
/** The picture is drawn in cells, at most this many a side: a large one costs little more than a small one. */
const CELLS_MAX = 160;
const SHADES = 48;
const DESCRIPTION_CHARS_MAX = 2000;

const hues: readonly (readonly [RegExp, number])[] = [
  [/\b(red|rot\w*)\b|红|빨간/i, 0],
  [/\borange\b|橙/i, 30],
  [/\b(yellow|gelb\w*|gold\w*)\b|黄|노란/i, 55],
  [/\b(green|grün\w*)\b|绿|초록/i, 125],
  [/\b(blue|blau\w*|sea|meer|sky|himmel)\b|蓝|海|天空|파란/i, 215],
  [/\b(purple|violet|lila)\b|紫/i, 280],
  [/\b(pink|rosa)\b|粉/i, 330],
];

/** The bytes of a PNG of exactly that size, with 8-bit palette. The same prompt, size and seed give the same bytes. */
export function drawImage(
  prompt: string,
  { width, height, seed, cells: cellsMax = CELLS_MAX }: ImageOptions,
): Uint8Array {
  for (const side of [width, height]) {
    if (!Number.isInteger(side) || side < 1 || side > IMAGE_SIDE_MAX)
      throw new RangeError(`sides are 1 to ${IMAGE_SIDE_MAX}`);
  }
  const rng = createRng(`image:${seed}:${prompt}`);
  const named = hues.filter(([word]) => word.test(prompt)).map(([, hue]) => hue);
  const ground = named[0] ?? drawInteger(rng, 0, 359);
  const shape = named[1] ?? (ground + drawInteger(rng, 90, 270)) % 360;
  const palette = Buffer.concat([shadesOf(ground), shadesOf(shape)]);
  const scale = Math.ceil(Math.max(width, height) / cellsMax);
  const cells = drawCells(rng, Math.ceil(width / scale), Math.ceil(height / scale));

  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 3, 0, 0, 0], 8);
  return Buffer.concat([
    Buffer.from("\x89PNG\r\n\x1a\n", "latin1"),
    chunk("IHDR", header),
    chunk("iTXt", internationalText("Software", "Millrace simulator")),
    chunk("iTXt", internationalText("Description", prompt.slice(0, DESCRIPTION_CHARS_MAX).toWellFormed())),
    chunk("PLTE", palette),
    chunk("IDAT", deflateSync(scanlines(cells, width, height, scale), { level: 1 })),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

/** Indices into the palette, a row after the other: the ground in the first half of the shades, shapes in the second. */
function drawCells(rng: Rng, columns: number, rows: number): Uint8Array[] {
  const slope = rng();
  const shapes = Array.from({ length: drawInteger(rng, 3, 7) }, () => ({
    x: rng() * columns,
    y: rng() * rows,
    radius: (0.06 + 0.2 * rng()) * Math.max(columns, rows),
    round: rng() < 0.6,
  }));
  return Array.from({ length: rows }, (_, y) =>
    Uint8Array.from({ length: columns }, (_cell, x) => {
      const light = (slope * x) / columns + ((1 - slope) * y) / rows;
      const inside = shapes.findLast((one) => distance(one.round, x - one.x, y - one.y) < one.radius);
      if (inside === undefined) return Math.min(SHADES - 1, Math.floor(light * SHADES));
      const depth = 1 - distance(inside.round, x - inside.x, y - inside.y) / inside.radius;
      return SHADES + Math.min(SHADES - 1, Math.floor(depth * SHADES));
    }),
  );
}

const distance = (round: boolean, x: number, y: number): number =>
  round ? Math.hypot(x, y) : Math.max(Math.abs(x), Math.abs(y));

/** Each cell row is written once; its repeats say "as above" (filter 2), which compresses to nothing. */
function scanlines(cells: readonly Uint8Array[], width: number, height: number, scale: number): Buffer {
  const lines = Buffer.alloc(height * (width + 1));
  for (let y = 0; y < height; y++) {
    const at = y * (width + 1);
    if (y % scale !== 0) {
      lines[at] = 2;
      continue;
    }
    const row = cells[y / scale] ?? new Uint8Array();
    for (let x = 0; x < width; x++) lines[at + 1 + x] = row[Math.floor(x / scale)] ?? 0;
  }
  return lines;
}

/** Dark to light of one hue, three bytes a colour. */
function shadesOf(hue: number): Buffer {
  return Buffer.from(
    Array.from({ length: SHADES }, (_, index) => {
      const light = 0.25 + (0.6 * index) / SHADES;
      const spread = 0.7 * Math.min(light, 1 - light);
      // HSL to RGB, CSS Color 4, 7.1.
      return [0, 8, 4].map((offset) => {
        const k = (offset + hue / 30) % 12;
        return Math.round(255 * (light - spread * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
      });
    }).flat(),
  );
}

const internationalText = (keyword: string, text: string): Buffer => Buffer.from(`${keyword}\0\0\0\0\0${text}`);

function chunk(type: string, data: Buffer): Buffer {
  const bytes = Buffer.alloc(data.length + 12);
  bytes.writeUInt32BE(data.length, 0);
  bytes.write(type, 4, "latin1");
  data.copy(bytes, 8);
  bytes.writeUInt32BE(crc32(bytes.subarray(4, 8 + data.length)), 8 + data.length);
  return bytes;
}
