// Pictures through the whole service: a task with a picture in, the picture that GET /result answers measured on its
// pixels, and every bad picture as a FAILURE with its code in an actor that lives on.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import sharp, { type Sharp } from "sharp";
import { folderBlobs } from "../src/blobs/folder.ts";
import { type Stack, startStack } from "./stack.ts";

setDefaultTimeout(60_000);

const photo = await readFile(join(import.meta.dir, "../examples/cat.jpg"));
const WIDTH = 451;
const HEIGHT = 300;
const OTHER_KEY = "stack-other-key";

let stack: Stack;
let host: ReturnType<typeof servePictures>;
let actorPid: number;

/** A server with a good picture and all sorts of bad answers. */
function servePictures() {
  const answers: Record<string, (request: Request) => Response | Promise<Response>> = {
    "/cat.jpg": () => new Response(photo, { headers: { "content-type": "image/jpeg" } }),
    "/moved": () => new Response(null, { status: 302, headers: { location: "/cat.jpg" } }),
    "/to-metadata": () => new Response(null, { status: 302, headers: { location: "http://169.254.169.254/latest/" } }),
    "/truncated.jpg": () => new Response(photo.subarray(0, 9_000)),
    "/bomb.png": () => new Response(emptyPng(30_000, 30_000)),
    "/page.html": () => new Response("<html><svg/></html>", { headers: { "content-type": "image/png" } }),
    "/endless": () => new Response(endless(), { headers: { "content-type": "image/png" } }),
    // Answers never; the socket goes when the client does.
    "/silent": (request) =>
      new Promise((resolve) => request.signal.addEventListener("abort", () => resolve(new Response()))),
  };
  return Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    idleTimeout: 60,
    fetch: (request) =>
      answers[new URL(request.url).pathname]?.(request) ?? new Response("no such picture", { status: 404 }),
  });
}

/** A PNG that declares a size and has no pixels. */
function emptyPng(width: number, height: number): Uint8Array<ArrayBuffer> {
  const png = Buffer.from("\x89PNG\r\n\x1a\n\0\0\0\rIHDR00000000\x08\x02\0\0\0", "latin1");
  png.writeUInt32BE(width, 16);
  png.writeUInt32BE(height, 20);
  const crc = Buffer.alloc(4);
  crc.writeUInt32BE(Bun.hash.crc32(png.subarray(12, 29)));
  const rest = Buffer.from("\0\0\0\0IDAT\x35\xaf\x06\x1e\0\0\0\0IEND\xae\x42\x60\x82", "latin1");
  return new Uint8Array(Buffer.concat([png, crc, rest]));
}

/** A picture's header, and then bytes without end. */
function endless(): ReadableStream<Uint8Array> {
  const megabyte = new Uint8Array(1_048_576);
  return new ReadableStream({
    start: (controller) => controller.enqueue(new Uint8Array(photo)),
    pull: (controller) => controller.enqueue(megabyte),
  });
}

beforeAll(async () => {
  host = servePictures();
  const settings = { MODELS: "superres-*,image-scoring,echo", FETCH_ALLOW_HOSTS: `127.0.0.1:${host.port}` };
  stack = await startStack({ settings, apiKeys: `test:stack-test-key,other:${OTHER_KEY}` });
  actorPid = await stack.pidOf("actor-0");
});

afterAll(async () => {
  await stack.stop();
  await host.stop(true);
});

const asInput = (bytes: Uint8Array): object => ({ image_base64: Buffer.from(bytes).toString("base64") });
const at = (path: string): object => ({ image_url: `http://127.0.0.1:${host.port}${path}` });

async function run(model: string, input: object, more: object = {}) {
  const { task_id: id } = await stack.submit({ model, input, ...more });
  return stack.ended(id, 40_000);
}

/** Peak signal-to-noise ratio in dB: 30 and more looks the same. */
async function psnr(a: Sharp, b: Sharp): Promise<number> {
  const [left, right] = await Promise.all([a, b].map((picture) => picture.removeAlpha().raw().toBuffer()));
  if (!left || !right || left.length !== right.length) throw new Error("two pictures of one size");
  const squares = left.reduce((sum, value, i) => sum + (value - (right[i] ?? 0)) ** 2, 0);
  return 10 * Math.log10(255 ** 2 / (squares / left.length));
}

describe("superres", () => {
  test.each([2, 4])(
    "x%d: a PNG of exactly that size, like the photograph, the same bytes everywhere",
    async (factor) => {
      const ended = await run(`superres-x${factor}`, asInput(photo));
      expect(ended).toMatchObject({
        status: "SUCCESS",
        attempt: 1,
        result: { size: [WIDTH * factor, HEIGHT * factor] },
      });
      const { s3_key, sha256, size_bytes } = ended.result as { s3_key: string; sha256: string; size_bytes: number };
      const answer = await stack.call("GET", `/v1/tasks/${ended.task_id}/result`);
      expect([answer.status, answer.headers.get("content-type")]).toEqual([200, "image/png"]);
      const bytes = await answer.bytes();
      expect(bytes.byteLength).toBe(size_bytes);
      expect(new Bun.CryptoHasher("sha256").update(bytes).digest("hex")).toBe(sha256);
      const kept = await folderBlobs(join(stack.dataDir, "blobs")).read(s3_key, 64 * 1024 * 1024);
      expect(Buffer.from(kept).equals(bytes)).toBe(true);

      const { format, width, height } = await sharp(bytes).metadata();
      expect([format, width, height]).toEqual(["png", WIDTH * factor, HEIGHT * factor]);
      const back = sharp(bytes).resize(WIDTH, HEIGHT, { fit: "fill" });
      expect(await psnr(back, sharp(photo))).toBeGreaterThan(30);
    },
  );

  test("from a URL of an allowed host, also behind a redirect: the same bytes as from base64", async () => {
    const digests: unknown[] = [];
    for (const input of [asInput(photo), at("/cat.jpg"), at("/moved")]) {
      const ended = await run("superres-x2", input);
      expect(ended).toMatchObject({ status: "SUCCESS" });
      digests.push((ended.result as { sha256: string }).sha256);
    }
    expect(new Set(digests).size).toBe(1);
  });

  test("from an upload: the same bytes, for the key that uploaded it alone", async () => {
    const upload = async (key: string): Promise<string> => {
      const form = new FormData();
      form.append("purpose", "vision");
      form.append("file", new File([photo], "cat.jpg", { type: "image/jpeg" }));
      const init = { method: "POST", headers: { "x-api-key": key }, body: form };
      return ((await (await fetch(`${stack.url}/v1/files`, init)).json()) as { id: string }).id;
    };
    const [mine, theirs] = await Promise.all([upload(stack.key), upload(OTHER_KEY)]);
    const ended = await run("superres-x2", { file_id: mine });
    const direct = await run("superres-x2", asInput(photo));
    expect(ended).toMatchObject({
      status: "SUCCESS",
      result: { sha256: (direct.result as { sha256: string }).sha256 },
    });
    const refused = await run("superres-x2", { file_id: theirs });
    expect(refused).toMatchObject({
      status: "FAILURE",
      attempt: 1,
      error: { code: "file_not_found", stage: "prepare" },
    });
  });

  test("progress is told on the way", async () => {
    const { task_id: id } = await run("superres-x2", asInput(photo));
    const text = await (await stack.call("GET", `/v1/tasks/${id}/events`)).text();
    const fractions = [...text.matchAll(/^event: progress\ndata: (.*)$/gm)].map((match) => JSON.parse(match[1] ?? ""));
    expect(fractions.at(-1)).toMatchObject({ fraction: 1 });
  });
});

test("image-scoring: every score from 0 to 100, the same for the same picture, lower for a blurred one", async () => {
  const scoresOf = async (bytes: Uint8Array): Promise<Record<string, number>> => {
    const ended = await run("image-scoring", asInput(bytes));
    expect(ended.status).toBe("SUCCESS");
    return ended.result as Record<string, number>;
  };
  const scores = await scoresOf(photo);
  expect(await scoresOf(photo)).toEqual(scores);
  const { width, height, ...measures } = scores;
  expect([width, height]).toEqual([WIDTH, HEIGHT]);
  expect(Object.keys(measures)).toHaveLength(6);
  for (const [name, value] of Object.entries(measures))
    expect([name, value >= 0 && value <= 100]).toEqual([name, true]);
  const blurred = await scoresOf(await sharp(photo).blur(3).png().toBuffer());
  expect(blurred.sharpness).toBeLessThan((scores.sharpness ?? 0) - 20);
});

describe("a bad picture ends as FAILURE with its code, and the actor lives", () => {
  const once = { max_attempts: 1 };
  test.each([
    ["a path that answers 404", () => at("/nothing"), "fetch_status"],
    ["a host that never answers", () => at("/silent"), "fetch_timeout"],
    ["a URL that never ends", () => at("/endless"), "fetch_too_large"],
    ["a redirect to an address that is not public", () => at("/to-metadata"), "fetch_blocked"],
    ["a bomb", () => at("/bomb.png"), "image_too_large"],
    ["a bomb in base64", () => asInput(emptyPng(8_000, 8_000)), "image_too_large"],
    ["a file that ends early", () => at("/truncated.jpg"), "image_unreadable"],
    ["a page that calls itself a picture", () => at("/page.html"), "image_unreadable"],
    ["base64 of no picture", () => asInput(Buffer.from("GIF89a and no more")), "image_unreadable"],
  ])("%s", async (_what, input, code) => {
    const both = await Promise.all(["superres-x4", "image-scoring"].map((model) => run(model, input(), once)));
    for (const ended of both) {
      expect(ended).toMatchObject({ status: "FAILURE", attempt: 1, error: { code, stage: "prepare" } });
      expect(JSON.stringify(ended)).not.toMatch(/\.ts\b|node_modules|sharp|vips/i);
    }
  });

  test("another port of an allowed host is refused before anything is queued", async () => {
    const other = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response(photo) });
    const input = { image_url: `http://127.0.0.1:${other.port}/cat.jpg` };
    const refused = await stack.call("POST", "/v1/tasks", { model: "superres-x2", input });
    await other.stop(true);
    expect([refused.status, ((await refused.json()) as { code: string }).code]).toEqual([422, "invalid_request"]);
  });

  test("all of it in one and the same process, which still works", async () => {
    expect(await run("superres-x2", asInput(photo))).toMatchObject({ status: "SUCCESS" });
    expect(await stack.pidOf("actor-0")).toBe(actorPid);
  });
});
