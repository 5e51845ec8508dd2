import { expect, test } from "bun:test";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openBlobs } from "./open.ts";
import { startS3 } from "./s3-server.ts";

test("objects go to DATA_DIR/blobs without an endpoint, and to the server and not to the disk with one", async () => {
  const dataDir = await mkdtemp(join(tmpdir(), "millrace-open-"));
  const server = await startS3();
  try {
    const remote = await openBlobs({ s3: server.settings, dataDir });
    await remote.ready();
    await remote.put("a", Buffer.from("x"), { contentType: "text/plain" });
    expect(await readdir(dataDir)).toEqual([]);
    const local = await openBlobs({ s3: null, dataDir });
    expect(await local.stat("a")).toBeNull();
    await local.put("a", Buffer.from("x"), { contentType: "text/plain" });
    expect(await readdir(dataDir)).toEqual(["blobs"]);
  } finally {
    await server.stop();
    await rm(dataDir, { recursive: true });
  }
});
