import { describe, expect, test } from "bun:test";
import { once } from "node:events";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import type { Blobs } from "./blobs.ts";
import { blobsConformance, bytesOf, codeOf, patterned, pieces, sha256 } from "./conformance.ts";
import { minioBlobs } from "./minio.ts";
import { type S3Server, startS3 } from "./s3-server.ts";

const MIB = 1024 ** 2;
const octets = { contentType: "application/octet-stream" };
/** The least there may be, so that objects of a test's size take both ways up. */
const partBytes = 5 * MIB;

blobsConformance(
  "s3",
  async () => {
    const { settings, dir, stop } = await startS3();
    const blobs = minioBlobs(settings, { sizeBytesMax: 8 * MIB, partBytes, spoolDir: dir });
    return { blobs, sizeBytesMax: 8 * MIB, dir, down: stop, close: stop };
  },
  {
    rangeOfEmpty: "s3rver promises one byte and sends none; S3 answers 416",
    concurrentPuts: "s3rver writes an object and its metadata in place; S3 replaces them at once",
  },
);

/** Runs `use` on a started server and a store with the bucket made. */
async function onS3(use: (blobs: Blobs, server: S3Server) => Promise<void>): Promise<void> {
  const server = await startS3();
  try {
    const blobs = minioBlobs(server.settings, { partBytes, spoolDir: join(server.dir, "spool") });
    await blobs.ready();
    await use(blobs, server);
  } finally {
    await server.stop();
  }
}

/** The file in which s3rver keeps the content or the metadata of an object. */
const fileOf = (server: S3Server, key: string, what: "object" | "metadata.json"): string =>
  join(server.dir, "millrace-test", `${key}._S3rver_${what}`);

describe("s3: objects", () => {
  test("an object of three parts, from bytes and from a stream, is one object with its SHA-256", async () => {
    await onS3(async (blobs, server) => {
      const content = patterned(11 * MIB + 7);
      for (const source of [content, pieces(content, 300_000)]) {
        const stat = await blobs.put("parts", source, { contentType: "audio/wav", sizeBytes: content.length });
        expect(stat).toMatchObject({ sizeBytes: content.length, sha256: sha256(content), contentType: "audio/wav" });
        expect(await blobs.stat("parts")).toEqual(stat);
        expect(sha256(await blobs.read("parts", 12 * MIB))).toBe(stat.sha256);
        await blobs.delete("parts");
      }
      expect(await readdir(join(server.dir, "spool"))).toEqual([]);
    });
  });

  test("one flipped bit on the server is found by read", async () => {
    await onS3(async (blobs, server) => {
      await blobs.put("flipped", patterned(1_000), octets);
      const file = fileOf(server, "flipped", "object");
      const bytes = await readFile(file);
      bytes[500] = (bytes[500] ?? 0) ^ 1;
      await writeFile(file, bytes);
      expect(await codeOf(blobs.read("flipped", 1_000))).toBe("blob_corrupt");
    });
  });

  test("an object without our SHA-256 was not put by us", async () => {
    await onS3(async (blobs, server) => {
      await blobs.put("foreign", patterned(1_000), octets);
      const file = fileOf(server, "foreign", "metadata.json");
      const metadata = JSON.parse(await readFile(file, "utf8"));
      delete metadata["x-amz-meta-sha256"];
      await writeFile(file, JSON.stringify(metadata));
      expect(await codeOf(blobs.stat("foreign"))).toBe("blob_corrupt");
      expect(await codeOf(blobs.read("foreign", 1_000))).toBe("blob_corrupt");
      expect(await bytesOf(await blobs.get("foreign"))).toHaveLength(1_000);
    });
  });

  test("ready makes the bucket, however many ask at the same time", async () => {
    await onS3(async (_blobs, server) => {
      const settings = { ...server.settings, bucket: "raced-bucket" };
      await Promise.all(Array.from({ length: 5 }, () => minioBlobs(settings).ready()));
      await minioBlobs(settings).put("a", patterned(1), octets);
    });
  });

  test("a bucket that is gone and wrong credentials are storage_unavailable, not a missing object", async () => {
    await onS3(async (blobs, server) => {
      const wrong = minioBlobs({ ...server.settings, accessKey: "unknown" });
      expect(await codeOf(wrong.ready())).toBe("storage_unavailable");
      expect(await codeOf(wrong.stat("a"))).toBe("storage_unavailable");
      await rm(join(server.dir, "millrace-test"), { recursive: true });
      expect(await codeOf(blobs.put("a", patterned(1), octets))).toBe("storage_unavailable");
      expect(await codeOf(blobs.get("a"))).toBe("storage_unavailable");
    });
  });
});

/**
 * A server before the server: hands bytes on in both directions until `wedge` says, of a request's first line, that the
 * request goes no further or that the response stops after its first 64 KiB.
 */
async function wedgedBefore(server: S3Server, wedge: (firstLine: string) => "request" | "response" | null) {
  const upstream = new URL(server.settings.endpoint);
  const sockets = new Set<Socket>();
  const wedged = Promise.withResolvers<Socket>();
  const proxy = createServer((client) => {
    const origin = connect(Number(upstream.port), upstream.hostname);
    let stuck: "request" | "response" | null = null;
    let handedOn = 0;
    for (const socket of [client, origin]) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        client.destroy();
        origin.destroy();
      });
    }
    client.on("data", (data) => {
      const firstLine = /^[A-Z]+ \S+ HTTP\/1\.1/.exec(data.toString("latin1"))?.[0];
      if (firstLine !== undefined) stuck = wedge(firstLine);
      if (stuck === "request") wedged.resolve(client);
      else origin.write(data);
    });
    origin.on("data", (data: Buffer) => {
      const part = stuck === "response" ? data.subarray(0, Math.max(0, 65_536 - handedOn)) : data;
      handedOn += part.length;
      if (part.length > 0) client.write(part);
      if (part.length < data.length) wedged.resolve(client);
    });
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  const address = proxy.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return {
    settings: { ...server.settings, endpoint: `http://127.0.0.1:${address.port}` },
    /** The client's socket, once something was held back on it. */
    wedged: wedged.promise,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => proxy.close(resolve));
    },
  };
}

const closed = (socket: Socket): Promise<unknown> => (socket.closed ? Promise.resolve() : once(socket, "close"));

const contentRequests = (line: string) => (line.startsWith("GET /millrace-test/") ? "response" : null);

describe("s3: a server that stops answering", () => {
  test("a request without an answer ends at its deadline and takes its socket along", async () => {
    await onS3(async (_direct, server) => {
      await using wedge = await wedgedBefore(server, () => "request");
      const blobs = minioBlobs(wedge.settings, { deadlineMs: 50 });
      expect(await codeOf(blobs.stat("a"))).toBe("storage_unavailable");
      await closed(await wedge.wedged);
      expect(await codeOf(blobs.ready())).toBe("storage_unavailable");
      expect(await codeOf(blobs.put("a", patterned(1), octets))).toBe("storage_unavailable");
      expect(await codeOf(blobs.get("a"))).toBe("storage_unavailable");
      expect(await codeOf(blobs.delete("a"))).toBe("storage_unavailable");
    });
  });

  test("content that stops in the middle is an error of the stream and of read", async () => {
    await onS3(async (direct, server) => {
      await direct.put("halting", patterned(4 * MIB), octets);
      await using wedge = await wedgedBefore(server, contentRequests);
      const blobs = minioBlobs(wedge.settings, { deadlineMs: 200 });
      expect(await codeOf(bytesOf(await blobs.get("halting")))).toBe("storage_unavailable");
      await closed(await wedge.wedged);
      expect(await codeOf(blobs.read("halting", 4 * MIB))).toBe("storage_unavailable");
    });
  });

  test("a connection that is cut in the middle of content is never a clean end", async () => {
    await onS3(async (direct, server) => {
      await direct.put("cut", patterned(4 * MIB), octets);
      await using wedge = await wedgedBefore(server, contentRequests);
      const content = bytesOf(await minioBlobs(wedge.settings).get("cut"));
      (await wedge.wedged).destroy();
      expect(await codeOf(content)).toBe("storage_unavailable");
    });
  });

  test("a reader that leaves takes its socket along", async () => {
    await onS3(async (direct, server) => {
      await direct.put("left", patterned(4 * MIB), octets);
      await using wedge = await wedgedBefore(server, contentRequests);
      const stream = await minioBlobs(wedge.settings).get("left");
      const socket = await wedge.wedged;
      await stream.cancel();
      await closed(socket);
    });
  });

  test("an abort while a part is on its way: the caller's reason, the clean-up asked for, no object", async () => {
    await onS3(async (direct, server) => {
      const parts: string[] = [];
      const cleaned = Promise.withResolvers<void>();
      await using wedge = await wedgedBefore(server, (line) => {
        if (line.startsWith("DELETE ") && line.includes("uploadId=")) cleaned.resolve();
        if (line.includes("partNumber=")) parts.push(line);
        return line.includes("partNumber=2") ? "request" : null;
      });
      const blobs = minioBlobs(wedge.settings, { partBytes, spoolDir: join(server.dir, "spool") });
      const abort = new AbortController();
      const reason = new Error("the client left");
      const putting = blobs.put("aborted", patterned(11 * MIB), { ...octets, signal: abort.signal });
      const socket = await wedge.wedged;
      abort.abort(reason);
      expect(await putting.catch((error) => error)).toBe(reason);
      await cleaned.promise;
      await closed(socket);
      expect(parts).toHaveLength(2);
      expect(await direct.stat("aborted")).toBeNull();
    });
  });
});

test("s3: endpoints with and without a scheme are taken, anything else is invalid_config", async () => {
  const settings = { endpoint: "minio:9000", accessKey: "a", secretKey: "b", bucket: "millrace" };
  for (const endpoint of ["minio:9000", "http://127.0.0.1:9000", "https://s3.example.org", "http://[::1]:9000/"]) {
    minioBlobs({ ...settings, endpoint });
  }
  for (const endpoint of [
    "",
    "ftp://a",
    "http://a/b",
    "http://user:pw@a",
    "http://a?x=1",
    "http://",
    "a b",
    "http://-a",
  ]) {
    expect(await codeOf((async () => minioBlobs({ ...settings, endpoint }))())).toBe("invalid_config");
  }
  for (const bucket of ["", "ab", "A-bucket", "a/b", "a..b"]) {
    expect(await codeOf((async () => minioBlobs({ ...settings, bucket }))())).toBe("invalid_config");
  }
});
