// The store that counts: the same contract as the one inside, and the counts of what went through it.
import { expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "../log.ts";
import { createMetrics } from "../metrics/metrics.ts";
import { blobsConformance, bytesOf, codeOf, patterned } from "./conformance.ts";
import { folderBlobs } from "./folder.ts";
import { measuredBlobs } from "./measured.ts";

const SIZE_BYTES_MAX = 8 * 1024 ** 2;

blobsConformance("measured folder", async () => {
  const parent = await mkdtemp(join(tmpdir(), "millrace-blobs-"));
  const dir = join(parent, "blobs");
  return {
    blobs: measuredBlobs(folderBlobs(dir, { sizeBytesMax: SIZE_BYTES_MAX }), createMetrics(silentLog)),
    sizeBytesMax: SIZE_BYTES_MAX,
    dir,
    down: () => rm(dir, { recursive: true }),
    close: () => rm(parent, { recursive: true }),
  };
});

test("bytes are counted as they pass, operations by their outcome", async () => {
  const dir = await mkdtemp(join(tmpdir(), "millrace-blobs-"));
  try {
    const metrics = createMetrics(silentLog);
    const blobs = measuredBlobs(folderBlobs(dir), metrics);
    await blobs.put("results/a", patterned(1_000), { contentType: "image/png" });
    expect((await blobs.read("results/a", 1_000)).byteLength).toBe(1_000);
    expect((await bytesOf(await blobs.get("results/a", { start: 100, end: 199 }))).byteLength).toBe(100);
    expect(await codeOf(blobs.get("results/b"))).toBe("blob_not_found");
    expect(await codeOf(blobs.read("results/a", 10))).toBe("payload_too_large");
    const lines = (await metrics.text()).split("\n").filter((line) => !line.startsWith("#"));
    expect(lines.filter(Boolean).sort()).toEqual([
      'millrace_blob_bytes_total{direction="read"} 1100',
      'millrace_blob_bytes_total{direction="written"} 1000',
      'millrace_blob_operations_total{operation="get",outcome="missing"} 1',
      'millrace_blob_operations_total{operation="get",outcome="ok"} 1',
      'millrace_blob_operations_total{operation="put",outcome="ok"} 1',
      'millrace_blob_operations_total{operation="read",outcome="error"} 1',
      'millrace_blob_operations_total{operation="read",outcome="ok"} 1',
    ]);
  } finally {
    await rm(dir, { recursive: true });
  }
});
