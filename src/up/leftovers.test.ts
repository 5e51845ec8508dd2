import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "../log.ts";
import { endLeftovers, type ProcessRecords, processRecords } from "./leftovers.ts";

let dataDir = "";
let records: ProcessRecords;
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "millrace left "));
  records = processRecords(dataDir);
});
afterEach(() => rm(dataDir, { recursive: true, force: true }));

const idle = () => Bun.spawn(["sh", "-c", "exec sleep 600"], { stdout: "ignore" });

test("a recorded process that still lives is ended and forgotten", async () => {
  await using child = idle();
  await records.remember("actor-0", child.pid);
  await endLeftovers(records, silentLog);
  await child.exited;
  expect(child.signalCode).toBe("SIGTERM");
  expect(await readdir(records.folder)).toEqual([]);
});

test("a process that only has the pid of an old one is left alone", async () => {
  await using child = idle();
  await records.remember("actor-0", child.pid);
  await writeFile(join(records.folder, "actor-0.pid"), JSON.stringify({ pid: child.pid, began: "boot:1" }));
  await writeFile(join(records.folder, "gateway.pid"), '{"pid":');
  await endLeftovers(records, silentLog);
  expect(child.killed).toBe(false);
  expect(() => process.kill(child.pid, 0)).not.toThrow();
  expect(await readdir(records.folder)).toEqual([]);
});

test("nothing recorded, nothing to do", async () => {
  await endLeftovers(records, silentLog);
  await records.forget("actor-0");
});
