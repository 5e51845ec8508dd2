import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { lockDataDir } from "./lock.ts";

let dataDir = "";
beforeEach(async () => {
  dataDir = join(await mkdtemp(join(tmpdir(), "millrace lock ")), "new");
});
afterEach(() => rm(dataDir, { recursive: true, force: true }));

const holder = () =>
  Bun.spawn(
    [
      process.execPath,
      "-e",
      `const { lockDataDir } = await import(${JSON.stringify(join(import.meta.dir, "lock.ts"))});
       lockDataDir(${JSON.stringify(dataDir)}); console.log("held"); await new Promise(() => setInterval(() => {}, 1e6));`,
    ],
    { stdout: "pipe" },
  );

test("a second holder is told the pid of the first, until that one is killed", async () => {
  await using first = holder();
  await first.stdout.getReader().read();
  expect(() => lockDataDir(dataDir)).toThrow(`(pid ${first.pid})`);
  first.kill("SIGKILL");
  await first.exited;
  lockDataDir(dataDir).release();
});

test("it excludes its own process too, and can be taken again after its release", () => {
  const lock = lockDataDir(dataDir);
  expect(() => lockDataDir(dataDir)).toThrow(`(pid ${process.pid})`);
  lock.release();
  lock.release();
  lockDataDir(dataDir).release();
});

test("a folder that cannot be made is named", () => {
  expect(() => lockDataDir("/proc/millrace")).toThrow("DATA_DIR /proc/millrace cannot be written");
});
