// What every object store must do, as one suite that each adapter's test runs on a real store. Imported by tests only.
// It looks at the store's disk as well, since "leaves nothing behind" cannot be seen through the contract.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { readdir } from "node:fs/promises";
import { asAppError } from "../errors.ts";
import type { BlobPutOptions, Blobs } from "./blobs.ts";

export interface BlobsUnderTest {
  readonly blobs: Blobs;
  /** Objects above it are refused; at least 8 MiB. */
  readonly sizeBytesMax: number;
  /** Every file below it belongs to the store. */
  readonly dir: string;
  /** Ends the store under the adapter's feet: its server is stopped, its disk is gone. */
  down(): Promise<void>;
  close(): Promise<void>;
}

const MIB = 1024 ** 2;
const octets: BlobPutOptions = { contentType: "application/octet-stream" };

export const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** `length` bytes that depend on `seed` and never repeat in step with a chunk. */
export function patterned(length: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = seed >>> 0 || 1;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

export const bytesOf = async (stream: ReadableStream<Uint8Array>): Promise<Uint8Array> =>
  new Uint8Array(await new Response(stream).arrayBuffer());

/** The code that `call` fails with; fails the test when it does not fail, or with an error that is not ours. */
export async function codeOf(call: Promise<unknown>): Promise<string> {
  const error = await call.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  const known = asAppError(error);
  if (known === null) throw new Error("expected a failure with a code", { cause: error });
  return known.code;
}

/** A source that makes `bytes` in pieces, one for each that is asked of it. */
export function pieces(bytes: Uint8Array, pieceBytes: number, each: (made: number) => void = () => {}) {
  let made = 0;
  return new ReadableStream<Uint8Array>(
    {
      pull: (controller) => {
        each(made);
        const piece = bytes.slice(made * pieceBytes, ++made * pieceBytes);
        if (piece.length > 0) controller.enqueue(piece);
        if (made * pieceBytes >= bytes.length) controller.close();
      },
    },
    { highWaterMark: 0 },
  );
}

const filesIn = async (dir: string): Promise<number> =>
  (await readdir(dir, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile()).length;

/** Cases that a test server, not the adapter, gets wrong; the value says how. They are reported as skipped. */
export type Skips = Partial<Record<"rangeOfEmpty" | "concurrentPuts", string>>;

const casesOf = (skips: Skips) => (name: keyof Skips, title: string, run: () => Promise<void>) => {
  const reason = skips[name];
  test.skipIf(reason !== undefined)(reason ? `${title} (${reason})` : title, run);
};

/** Registers the suite. `make` gives a fresh, empty store; it is called once for the cases and once for `down`. */
export function blobsConformance(name: string, make: () => Promise<BlobsUnderTest>, skips: Skips = {}): void {
  describe(`${name}: the contract of the object store`, () => {
    let store: BlobsUnderTest;
    beforeAll(async () => {
      store = await make();
      await store.blobs.ready();
    });
    afterAll(() => store.close());

    const current = (): BlobsUnderTest => store;
    wholeObjects(current, skips);
    ranges(current, skips);
    streams(current);
    refusals(current);
  });

  test(`${name}: a store that is down answers storage_unavailable in bounded time`, async () => {
    const { blobs, down, close } = await make();
    try {
      await blobs.ready();
      await blobs.put("a", patterned(10), octets);
      await down();
      const started = performance.now();
      expect(await codeOf(blobs.ready())).toBe("storage_unavailable");
      expect(await codeOf(blobs.put("b", patterned(10), octets))).toBe("storage_unavailable");
      expect(await codeOf(blobs.get("a"))).toBe("storage_unavailable");
      expect(await codeOf(blobs.read("a", 100))).toBe("storage_unavailable");
      expect(await codeOf(blobs.stat("a"))).toBe("storage_unavailable");
      expect(await codeOf(blobs.delete("a"))).toBe("storage_unavailable");
      expect(performance.now() - started).toBeLessThan(5_000);
    } finally {
      await close();
    }
  });
}

function wholeObjects(current: () => BlobsUnderTest, skips: Skips): void {
  test("put, stat, get, read and delete agree", async () => {
    const { blobs } = current();
    const content = patterned(100_000);
    const key = "results/0123456789abcdefghjkmnpqrs-f00.png";
    const stat = await blobs.put(key, content, { contentType: "image/png", sizeBytes: content.length });
    expect(stat).toEqual({ key, sizeBytes: 100_000, sha256: sha256(content), contentType: "image/png" });
    expect(await blobs.stat(key)).toEqual(stat);
    expect(await bytesOf(await blobs.get(key))).toEqual(content);
    expect(sha256(await blobs.read(key, 100_000))).toBe(stat.sha256);
    expect(await codeOf(blobs.read(key, 99_999))).toBe("payload_too_large");
    await blobs.delete(key);
    await blobs.delete(key);
    expect(await blobs.stat(key)).toBeNull();
  });

  test("an empty object is an object, from bytes and from a stream", async () => {
    const { blobs } = current();
    for (const content of [new Uint8Array(), pieces(new Uint8Array(), 1)]) {
      await blobs.put("empty", content, octets);
      expect(await blobs.stat("empty")).toMatchObject({ sizeBytes: 0, sha256: sha256(new Uint8Array()) });
      expect(await bytesOf(await blobs.get("empty"))).toHaveLength(0);
      expect(await blobs.read("empty", 0)).toHaveLength(0);
      await blobs.delete("empty");
    }
  });

  test("a content type keeps its parameters, however they are quoted", async () => {
    const { blobs } = current();
    const contentType = 'text/plain; charset=utf-8; note="a\\"b\\\\"';
    await blobs.put("typed", patterned(3), { contentType });
    expect((await blobs.stat("typed"))?.contentType).toBe(contentType);
  });

  test("a put replaces content and description together", async () => {
    const { blobs } = current();
    await blobs.put("twice", patterned(5_000, 1), { contentType: "text/plain" });
    const second = patterned(70, 2);
    const stat = await blobs.put("twice", second, { contentType: "image/webp" });
    expect(await blobs.stat("twice")).toEqual(stat);
    expect(sha256(await blobs.read("twice", 100))).toBe(sha256(second));
  });

  test("a key may be another key's folder, and may be long", async () => {
    const { blobs } = current();
    for (const key of ["nested", "nested/deeper", "nested/deeper/still", `l${"o".repeat(200)}ng`]) {
      await blobs.put(key, Buffer.from(key), octets);
    }
    expect(Buffer.from(await blobs.read("nested", 100)).toString()).toBe("nested");
    expect(Buffer.from(await blobs.read("nested/deeper/still", 100)).toString()).toBe("nested/deeper/still");
  });

  casesOf(skips)("concurrentPuts", "concurrent puts of one key leave one of them whole", async () => {
    const { blobs } = current();
    const contents = Array.from({ length: 8 }, (_, i) => patterned(200_000 + i, i + 1));
    await Promise.all(contents.map((content) => blobs.put("raced", content, octets)));
    // `read` checks the SHA-256, so a mixture of content or description cannot pass.
    const left = await blobs.read("raced", MIB);
    expect(contents.map(sha256)).toContain(sha256(left));
  });

  test("missing objects", async () => {
    const { blobs } = current();
    expect(await blobs.stat("no/such")).toBeNull();
    expect(await codeOf(blobs.get("no/such"))).toBe("blob_not_found");
    expect(await codeOf(blobs.get("no/such", { start: 1, end: 2 }))).toBe("blob_not_found");
    expect(await codeOf(blobs.read("no/such", 1))).toBe("blob_not_found");
  });
}

function ranges(current: () => BlobsUnderTest, skips: Skips): void {
  casesOf(skips)("rangeOfEmpty", "a range of an empty object is empty", async () => {
    const { blobs } = current();
    await blobs.put("ranged-empty", new Uint8Array(), octets);
    expect(await bytesOf(await blobs.get("ranged-empty", { start: 0, end: 0 }))).toHaveLength(0);
  });

  test("ranges: start, middle, last byte, across and beyond the end", async () => {
    const { blobs } = current();
    const content = patterned(600_000);
    await blobs.put("ranged", content, octets);
    const cases = [
      [0, 0],
      [0, 99],
      [1, 1],
      [255_000, 530_000],
      [599_999, 599_999],
      [599_990, 10_000_000],
      [0, Number.MAX_SAFE_INTEGER - 1],
      [600_000, 600_001],
      [900_000, 900_000],
    ] as const;
    for (const [start, end] of cases) {
      const part = await bytesOf(await blobs.get("ranged", { start, end }));
      expect(sha256(part)).toBe(sha256(content.subarray(start, Math.min(end + 1, content.length))));
    }
    for (const [start, end] of [
      [-1, 5],
      [5, 4],
      [0.5, 2],
      [0, Number.NaN],
    ] as const) {
      expect(await codeOf(blobs.get("ranged", { start, end }))).toBe("internal");
    }
  });
}

function streams(current: () => BlobsUnderTest): void {
  test("a 7 MiB stream of many pieces is stored and read back the same", async () => {
    const { blobs } = current();
    const content = patterned(7 * MIB + 13);
    const stat = await blobs.put("streamed", pieces(content, 64 * 1024), octets);
    expect(stat).toMatchObject({ sizeBytes: content.length, sha256: sha256(content) });
    expect(await blobs.stat("streamed")).toEqual(stat);
    expect(sha256(await bytesOf(await blobs.get("streamed")))).toBe(stat.sha256);
    expect(sha256(await bytesOf(await blobs.get("streamed", { start: 5 * MIB - 1, end: 6 * MIB })))).toBe(
      sha256(content.subarray(5 * MIB - 1, 6 * MIB + 1)),
    );
    expect(sha256(await blobs.read("streamed", 8 * MIB))).toBe(stat.sha256);
  });

  test("a reader may leave in the middle, and the object stays readable", async () => {
    const { blobs } = current();
    await blobs.put("left", patterned(3 * MIB), octets);
    const reader = (await blobs.get("left")).getReader();
    expect((await reader.read()).value?.length).toBeGreaterThan(0);
    await reader.cancel();
    expect(await blobs.read("left", 3 * MIB)).toHaveLength(3 * MIB);
  });

  for (const at of [0, 1, 100]) {
    test(`an abort after ${at} pieces ends the put with its reason, cancels the source and leaves nothing`, async () => {
      const { blobs, dir } = current();
      const before = await filesIn(dir);
      const reason = new Error("the client left");
      const abort = new AbortController();
      const cancelled = Promise.withResolvers<void>();
      let made = 0;
      const source = new ReadableStream<Uint8Array>(
        {
          pull: (controller) => {
            if (made++ === at) abort.abort(reason);
            else controller.enqueue(patterned(64 * 1024));
            // From here on the source hangs: only the abort can end the put.
            return made > at ? new Promise(() => {}) : undefined;
          },
          cancel: () => cancelled.resolve(),
        },
        { highWaterMark: 0 },
      );
      const failure = await blobs.put("aborted", source, { ...octets, signal: abort.signal }).catch((error) => error);
      expect(failure).toBe(reason);
      await cancelled.promise;
      expect(await blobs.stat("aborted")).toBeNull();
      expect(await filesIn(dir)).toBe(before);
    });
  }

  test("an aborted signal ends a put before it reads, of bytes as of a stream", async () => {
    const { blobs } = current();
    const signal = AbortSignal.abort(new Error("too late"));
    for (const content of [patterned(10), pieces(patterned(10), 5)]) {
      await expect(blobs.put("aborted", content, { ...octets, signal })).rejects.toThrow("too late");
    }
    expect(await blobs.stat("aborted")).toBeNull();
  });

  test("a source that fails ends the put with its own error and leaves the old object", async () => {
    const { blobs, dir } = current();
    await blobs.put("kept", patterned(10), octets);
    const before = await filesIn(dir);
    const source = pieces(patterned(MIB), 64 * 1024, (made) => {
      if (made === 9) throw new Error("the source broke");
    });
    await expect(blobs.put("kept", source, octets)).rejects.toThrow("the source broke");
    expect(await blobs.read("kept", 10)).toHaveLength(10);
    expect(await filesIn(dir)).toBe(before);
  });
}

function refusals(current: () => BlobsUnderTest): void {
  test("the limit on size holds for bytes, announced and unannounced streams, and leaves nothing", async () => {
    const { blobs, dir, sizeBytesMax } = current();
    const before = await filesIn(dir);
    const large = patterned(sizeBytesMax + 1);
    let asked = 0;
    const announced = { ...octets, sizeBytes: large.length };
    expect(await codeOf(blobs.put("large", large, octets))).toBe("payload_too_large");
    expect(await codeOf(blobs.put("large", pieces(large, 100_000), octets))).toBe("payload_too_large");
    const counted = pieces(large, 100_000, () => asked++);
    expect(await codeOf(blobs.put("large", counted, announced))).toBe("payload_too_large");
    expect(asked).toBe(0);
    expect(await blobs.stat("large")).toBeNull();
    expect(await filesIn(dir)).toBe(before);
    await blobs.put("large", large.subarray(1), octets);
    expect(sha256(await bytesOf(await blobs.get("large")))).toBe(sha256(large.subarray(1)));
    await blobs.delete("large");
  });

  test("a list has every object below its prefix, each with the time when it was stored", async () => {
    const { blobs } = current();
    const keys = ["listed/a", "listed/b.png", "listed/deep/c", "listed-not"];
    const fromMs = Date.now();
    for (const key of keys) await blobs.put(key, patterned(3), octets);
    const listed = async (prefix: string): Promise<string[]> => {
      const found: string[] = [];
      for await (const { key, storedAtMs } of blobs.list(prefix)) {
        if (!key.startsWith("listed")) continue;
        // S3 tells whole seconds.
        expect(storedAtMs).toBeWithin(fromMs - 1_000, Date.now() + 1_000);
        found.push(key);
      }
      return found.sort();
    };
    expect(await listed("listed/")).toEqual(keys.slice(0, 3));
    expect(await listed("listed/deep/")).toEqual(["listed/deep/c"]);
    expect(await listed("")).toEqual([keys[3] ?? "", ...keys.slice(0, 3)].sort());
    expect(await listed("nothing/")).toEqual([]);
    for await (const _ of blobs.list("listed/")) break;
    for (const bad of ["listed", "../", "/", "a//", "A/"]) {
      expect(await codeOf(blobs.list(bad)[Symbol.asyncIterator]().next())).toBe("internal");
    }
    for (const key of keys) await blobs.delete(key);
  });

  test("a size other than the announced one is refused", async () => {
    const { blobs } = current();
    for (const sizeBytes of [9, 11]) {
      for (const content of [patterned(10), pieces(patterned(10), 4)]) {
        expect(await codeOf(blobs.put("sized", content, { ...octets, sizeBytes }))).toBe("invalid_request");
      }
    }
    expect(await blobs.stat("sized")).toBeNull();
  });

  test("keys that are not ours are refused by every method, and a given stream is cancelled", async () => {
    const { blobs, dir } = current();
    const before = await filesIn(dir);
    const bad = [
      ...["", "/", "/etc/passwd", "../up", "a/../b", "a/./b", "a//b", "a/", ".hidden", "a/.b", "A", "a b", "a\\b"],
      ...["a\0b", "a\n", "a+b", "ä", "a%2fb", "x".repeat(256)],
    ];
    for (const key of bad) {
      const cancelled = Promise.withResolvers<void>();
      const source = new ReadableStream<Uint8Array>({ cancel: () => cancelled.resolve() });
      expect(await codeOf(blobs.put(key, source, octets))).toBe("internal");
      await cancelled.promise;
      expect(await codeOf(blobs.get(key))).toBe("internal");
      expect(await codeOf(blobs.read(key, 1))).toBe("internal");
      expect(await codeOf(blobs.stat(key))).toBe("internal");
      expect(await codeOf(blobs.delete(key))).toBe("internal");
    }
    expect(await filesIn(dir)).toBe(before);
  });

  test("content types that are none are refused", async () => {
    const { blobs } = current();
    for (const contentType of ["", "png", "a/b\r\nx: y", "a/b\0", "text/ä", `a/${"b".repeat(126)}`]) {
      expect(await codeOf(blobs.put("typed-badly", patterned(1), { contentType }))).toBe("invalid_request");
    }
    expect(await blobs.stat("typed-badly")).toBeNull();
  });
}
