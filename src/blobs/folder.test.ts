import { describe, expect, test } from "bun:test";
import {
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Blobs } from "./blobs.ts";
import { blobsConformance, codeOf, patterned, sha256 } from "./conformance.ts";
import { folderBlobs } from "./folder.ts";

const MIB = 1024 ** 2;
const text = { contentType: "text/plain" };

blobsConformance("folder", async () => {
  const parent = await mkdtemp(join(tmpdir(), "millrace-blobs-"));
  const dir = join(parent, "data", "blobs");
  return {
    blobs: folderBlobs(dir, { sizeBytesMax: 8 * MIB }),
    sizeBytesMax: 8 * MIB,
    dir,
    down: () => rm(dir, { recursive: true }),
    close: () => rm(parent, { recursive: true }),
  };
});

/** Runs `use` on a store in a folder of its own. */
async function inFolder(use: (blobs: Blobs, dir: string, parent: string) => Promise<void>): Promise<void> {
  const parent = await mkdtemp(join(tmpdir(), "millrace-blobs-"));
  try {
    await use(folderBlobs(join(parent, "blobs")), join(parent, "blobs"), parent);
  } finally {
    await rm(parent, { recursive: true });
  }
}

/** The one object's file. */
async function onlyFile(dir: string): Promise<string> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => !entry.isDirectory());
  expect(files).toHaveLength(1);
  return join(files[0]?.parentPath ?? "", files[0]?.name ?? "");
}

describe("folder: the files", () => {
  test("an object is one private file that begins with its content and is named by its key", async () => {
    await inFolder(async (blobs, dir) => {
      await blobs.put("results/a.txt", Buffer.from("hello"), text);
      const file = await onlyFile(dir);
      expect(file.endsWith("/results+a.txt")).toBe(true);
      const bytes = await readFile(file);
      expect(bytes.subarray(0, 5).toString()).toBe("hello");
      expect(bytes).toHaveLength(5 + 512);
      expect((await stat(file)).mode & 0o777).toBe(0o600);
      for (const folder of [dir, join(dir, "tmp"), join(file, "..")])
        expect((await stat(folder)).mode & 0o777).toBe(0o700);
    });
  });

  test("the longest key is a file, and one character more is refused", async () => {
    await inFolder(async (blobs) => {
      const longest = `a/${"b".repeat(253)}`;
      await blobs.put(longest, patterned(3), text);
      expect(await blobs.read(longest, 3)).toHaveLength(3);
      expect(await codeOf(blobs.stat(`${longest}b`))).toBe("internal");
    });
  });

  test("objects survive another instance, and two instances on one folder work at once", async () => {
    await inFolder(async (blobs, dir) => {
      const others = [blobs, folderBlobs(dir), folderBlobs(dir)];
      await Promise.all(others.map((other) => other.ready()));
      await Promise.all(others.map((other, i) => other.put(`from-${i}`, patterned(1_000, i), text)));
      for (const other of others)
        for (const i of [0, 1, 2]) expect(await other.read(`from-${i}`, 1_000)).toHaveLength(1_000);
    });
  });

  test("leftovers older than an hour are swept at the start and by a list, younger ones belong to somebody", async () => {
    await inFolder(async (blobs, dir) => {
      await mkdir(join(dir, "tmp"), { recursive: true });
      await writeFile(join(dir, "tmp", "old"), "x");
      await writeFile(join(dir, "tmp", "young"), "x");
      const longAgoS = Date.now() / 1_000 - 3_700;
      await utimes(join(dir, "tmp", "old"), longAgoS, longAgoS);
      await blobs.ready();
      expect(await readdir(join(dir, "tmp"))).toEqual(["young"]);
      await utimes(join(dir, "tmp", "young"), longAgoS, longAgoS);
      for await (const _object of blobs.list("")) expect.unreachable();
      expect(await readdir(join(dir, "tmp"))).toEqual([]);
    });
  });

  test("a reader keeps the object it opened while another is put in its place", async () => {
    await inFolder(async (blobs) => {
      const old = patterned(2 * MIB, 1);
      await blobs.put("swapped", old, text);
      const stream = await blobs.get("swapped");
      await blobs.put("swapped", patterned(100, 2), text);
      expect(sha256(new Uint8Array(await new Response(stream).arrayBuffer()))).toBe(sha256(old));
    });
  });
});

describe("folder: damage and malice", () => {
  test("one flipped bit is found by read", async () => {
    await inFolder(async (blobs, dir) => {
      await blobs.put("flipped", patterned(1_000), text);
      const file = await onlyFile(dir);
      const bytes = await readFile(file);
      bytes[500] = (bytes[500] ?? 0) ^ 1;
      await writeFile(file, bytes);
      expect(await codeOf(blobs.read("flipped", 1_000))).toBe("blob_corrupt");
    });
  });

  test("a file that lost bytes, its footer or its form is corrupt for every reader, and can be replaced", async () => {
    await inFolder(async (blobs, dir) => {
      await blobs.put("damaged", patterned(1_000), text);
      const file = await onlyFile(dir);
      const whole = await readFile(file);
      const forged = Buffer.from(whole.toString("latin1").replace('"sizeBytes":1000', '"sizeBytes":9999'), "latin1");
      const damages = [whole.subarray(0, 999), whole.subarray(0, 1_400), whole.subarray(1), Buffer.alloc(0), forged];
      for (const damage of [...damages, Buffer.alloc(1_512), Buffer.from("null".padEnd(512))]) {
        await writeFile(file, damage);
        expect(await codeOf(blobs.stat("damaged"))).toBe("blob_corrupt");
        expect(await codeOf(blobs.get("damaged"))).toBe("blob_corrupt");
        expect(await codeOf(blobs.read("damaged", 1_000))).toBe("blob_corrupt");
      }
      await blobs.put("damaged", patterned(10), text);
      expect(await blobs.read("damaged", 10)).toHaveLength(10);
    });
  });

  test("a symbolic link in an object's place is refused, and a put replaces the link, not its target", async () => {
    await inFolder(async (blobs, dir, parent) => {
      await blobs.put("linked", patterned(1_000), text);
      const file = await onlyFile(dir);
      // The target is a well-formed object, so that nothing but the link itself can be the reason.
      const target = join(parent, "target");
      await rename(file, target);
      await symlink(target, file);
      expect(await codeOf(blobs.stat("linked"))).toBe("blob_corrupt");
      expect(await codeOf(blobs.get("linked"))).toBe("blob_corrupt");
      expect(await codeOf(blobs.read("linked", 1_000))).toBe("blob_corrupt");
      const before = await readFile(target);
      await blobs.put("linked", patterned(10), text);
      expect((await lstat(file)).isFile()).toBe(true);
      expect(await readFile(target)).toEqual(before);
    });
  });

  test("a symbolic link in a folder's place is refused by every method", async () => {
    await inFolder(async (blobs, dir, parent) => {
      await blobs.put("inside", patterned(1_000), text);
      const folder = join(await onlyFile(dir), "..");
      await rename(folder, join(parent, "elsewhere"));
      await symlink(join(parent, "elsewhere"), folder);
      expect(await codeOf(blobs.put("inside", patterned(1), text))).toBe("storage_unavailable");
      expect(await codeOf(blobs.get("inside"))).toBe("storage_unavailable");
      expect(await codeOf(blobs.read("inside", 1_000))).toBe("storage_unavailable");
      expect(await codeOf(blobs.stat("inside"))).toBe("storage_unavailable");
      expect(await codeOf(blobs.delete("inside"))).toBe("storage_unavailable");
      expect(await readdir(join(parent, "elsewhere"))).toEqual(["inside"]);
      expect(await readdir(join(dir, "tmp"))).toEqual([]);
    });
  });

  test("a named pipe in an object's place does not hang a reader", async () => {
    await inFolder(async (blobs, dir) => {
      await blobs.put("piped", patterned(10), text);
      const file = await onlyFile(dir);
      await rm(file);
      expect(await Bun.spawn(["mkfifo", file]).exited).toBe(0);
      expect(await codeOf(blobs.read("piped", 10))).toBe("blob_corrupt");
    });
  });

  test("a root that cannot be made is storage_unavailable, and works once it can", async () => {
    await inFolder(async (blobs, dir) => {
      await writeFile(dir, "in the way");
      expect(await codeOf(blobs.ready())).toBe("storage_unavailable");
      expect(await codeOf(blobs.put("a", patterned(1), text))).toBe("storage_unavailable");
      await rm(dir);
      await blobs.ready();
      await blobs.put("a", patterned(1), text);
    });
  });
});
