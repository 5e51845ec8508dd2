// The picture a task brings: its schema, its bytes checked before anything is decoded, and its pixels. Runners call it
// through `ctx.image` and `decodePixels`. It must never hand bytes to a decoder that are not PNG, JPEG or WebP or whose
// header exceeds the limits, and never show a decoder's message or the input to a client.
import { availableParallelism } from "node:os";
import { type Static, Type } from "@sinclair/typebox";
import type sharpFactory from "sharp";
import { AppError, asAppError } from "../errors.ts";
import type { FetchedBytes } from "../net/fetch-input.ts";
import { base64Bytes, base64Length } from "./base64.ts";
import { type ImageHeader, readImageHeader } from "./image-header.ts";

/** 25 MiB, as for what is fetched: a photograph of 40 megapixels as a good JPEG takes 10 to 20. */
const BYTES_MAX = 25 * 1024 * 1024;
/** 40 megapixels decode to 120 MB, 160 MB with alpha. */
const PIXELS_MAX = 40_000_000;
const SIDE_MAX = 8_192;

/** An upload as a field of an input. */
export const fileIdField = Type.String({
  pattern: "^file-[0-7][0-9a-hjkmnp-tv-z]{25}$",
  description: "Id of an uploaded file (POST /v1/files) of the same API key",
});

/**
 * The schema of a picture: exactly one of `image_url` (http or https, public), `image_base64` (standard alphabet,
 * padded) and `file_id` (an upload of the same key). `pixelsMax` is told to the client here and enforced where the runner passes it to `decodePixels`.
 */
export const imageInput = (options: { readonly pixelsMax?: number } = {}) =>
  Type.Object(
    {
      image_url: Type.Optional(
        Type.String({ format: "public-url", maxLength: 2_048, description: "Address of the picture, http or https" }),
      ),
      image_base64: Type.Optional(
        Type.String({
          minLength: 1,
          maxLength: base64Length(BYTES_MAX),
          contentEncoding: "base64",
          description: "The picture's bytes in padded base64, without a data: prefix or line breaks",
        }),
      ),
      file_id: Type.Optional(fileIdField),
    },
    {
      minProperties: 1,
      maxProperties: 1,
      additionalProperties: false,
      description: `A PNG, JPEG or WebP picture of at most ${megapixels(options.pixelsMax ?? PIXELS_MAX)} megapixels`,
    },
  );

export type ImageInput = Static<ReturnType<typeof imageInput>>;

/** A picture whose format and size were read from its header and found within the limits. */
export interface DecodedImage {
  /** The file as it came. */
  readonly bytes: Uint8Array;
  readonly format: ImageHeader["format"];
  /** Pixels, as shown (EXIF orientation applied). */
  readonly width: number;
  readonly height: number;
}

export interface ReadImageOptions {
  /** How an `image_url` is fetched. */
  readonly fetch: (url: string) => Promise<FetchedBytes>;
  /** How a `file_id` is read. */
  readonly readFile: (fileId: string, sizeBytesMax: number) => Promise<Uint8Array>;
  /** Default 25 MiB. */
  readonly bytesMax?: number;
  /** Default 40,000,000. */
  readonly pixelsMax?: number;
  /** Default 8,192. */
  readonly sideMax?: number;
}

/**
 * The picture in `input`, judged by its header alone: a few milliseconds and no memory, whatever size it declares. Of
 * an animated one the first frame counts. Throws `image_too_large`, `image_unreadable` and what `fetch` and `readFile` throw. A file
 * that is cut short behind its header passes here and fails in `decodePixels`.
 */
export async function readImage(input: ImageInput, options: ReadImageOptions): Promise<DecodedImage> {
  const bytesMax = options.bytesMax ?? BYTES_MAX;
  const bytes = await bytesOf(input, bytesMax, options);
  if (bytes.byteLength > bytesMax) throw new AppError("image_too_large", `The picture has more than ${bytesMax} bytes`);
  const header = readImageHeader(bytes);
  if (header === null) throw new AppError("image_unreadable", "The picture is not a PNG, JPEG or WebP file");
  requireSize(header.width, header.height, options.pixelsMax ?? PIXELS_MAX, options.sideMax ?? SIDE_MAX);
  const { format } = header;
  const { width, height } = await uprightSize(bytes, header);
  return { bytes, format, width, height };
}

async function bytesOf(
  input: ImageInput,
  bytesMax: number,
  { fetch, readFile }: ReadImageOptions,
): Promise<Uint8Array> {
  if (input.image_base64 !== undefined) return sentBytes(input.image_base64, bytesMax);
  if (input.image_url !== undefined) return (await fetch(input.image_url)).bytes;
  if (input.file_id === undefined) {
    throw new AppError("invalid_input", "A picture needs image_url, image_base64 or file_id");
  }
  try {
    return await readFile(input.file_id, bytesMax);
  } catch (error) {
    if (asAppError(error)?.code !== "payload_too_large") throw error;
    throw new AppError("image_too_large", `The picture has more than ${bytesMax} bytes`);
  }
}

function sentBytes(text: string, bytesMax: number): Uint8Array {
  if (text.startsWith("data:")) {
    throw new AppError("image_unreadable", "image_base64 takes the base64 text alone, without the data: prefix");
  }
  if (text.length > base64Length(bytesMax)) {
    throw new AppError("image_too_large", `The picture has more than ${bytesMax} bytes`);
  }
  const bytes = base64Bytes(text);
  if (bytes) return bytes;
  throw new AppError("image_unreadable", "image_base64 is not padded base64 of the standard alphabet in one line");
}

/** The size as shown. The decoder reads the header anew; where it sees another picture than we did, it is refused. */
async function uprightSize(bytes: Uint8Array, header: ImageHeader): Promise<{ width: number; height: number }> {
  const sharp = await loadSharp();
  const seen = await sharp(bytes, { limitInputPixels: header.width * header.height })
    .metadata()
    .catch((cause: unknown) => {
      throw new AppError("image_unreadable", "The picture's header is damaged", { cause });
    });
  if (seen.format !== header.format || seen.width !== header.width || seen.height !== header.height) {
    throw new AppError("image_unreadable", "The picture's header is damaged");
  }
  return seen.autoOrient;
}

function requireSize(width: number, height: number, pixelsMax: number, sideMax: number): void {
  if (width * height <= pixelsMax && Math.max(width, height) <= sideMax) return;
  const limit = `at most ${megapixels(pixelsMax)} megapixels and ${sideMax} pixels a side are taken`;
  throw new AppError("image_too_large", `The picture has ${width} x ${height} pixels; ${limit}`);
}

const megapixels = (pixels: number): number => pixels / 1_000_000;

/** Decoded pixels: sRGB, 8 bits a channel, row by row from the top left, no padding. */
export interface Pixels {
  /** `width * height * channels` bytes. */
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
  /** Red, green, blue, and alpha (not premultiplied) where the picture has it. */
  readonly channels: 3 | 4;
}

/**
 * Decodes a picture: the first frame, upright, in sRGB whatever its profile, palette or depth. Throws `image_too_large`
 * above `pixelsMax` before decoding, `image_unreadable` for a file that is damaged or cut short.
 */
export async function decodePixels(image: DecodedImage, options: { pixelsMax?: number } = {}): Promise<Pixels> {
  const { width, height } = image;
  requireSize(width, height, options.pixelsMax ?? PIXELS_MAX, Number.POSITIVE_INFINITY);
  const sharp = await loadSharp();
  // "error" also refuses files that end early; "warning" would refuse photographs that every viewer shows.
  const { data, info } = await sharp(image.bytes, { failOn: "error", limitInputPixels: width * height })
    .autoOrient()
    .raw({ depth: "uchar" })
    .toBuffer({ resolveWithObject: true })
    .catch((cause: unknown) => {
      throw new AppError("image_unreadable", "The picture is damaged or incomplete", { cause });
    });
  if (info.width !== width || info.height !== height || (info.channels !== 3 && info.channels !== 4)) {
    throw new AppError("image_unreadable", "The picture's header and content differ");
  }
  return { data, width, height, channels: info.channels };
}

/**
 * sharp, set up for an actor, and so for the runners that use it on what they decoded: no cache of results (tasks
 * differ, memory matters) and up to four threads a picture, at most half the cores, as other actors share the machine.
 * Loaded on first use: a gateway reads schemas and no pictures.
 */
async function loadSharp(): Promise<typeof sharpFactory> {
  const { default: sharp } = await import("sharp");
  sharp.cache(false);
  sharp.concurrency(Math.max(1, Math.min(4, Math.floor(availableParallelism() / 2))));
  return sharp;
}
