import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { signal } from "../../tests/broker.ts";
import { silentLog } from "../log.ts";
import { type WatchedFile, watchModelsFile } from "./watch-models-file.ts";

let folder: string;
let path: string;
let watched: WatchedFile | null = null;
const logged: string[] = [];
const happened = signal();
const tell = (_: object, message: string): void => {
  logged.push(message);
  happened.notify();
};
const log = { ...silentLog, info: tell, error: tell };

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "models file "));
  path = join(folder, "models.yaml");
  logged.length = 0;
});
afterEach(async () => {
  watched?.stop();
  await rm(folder, { recursive: true });
});

const fileWith = (...names: string[]): string =>
  `providers: { ${names.map((name) => `${name}: { base_url: "http://x" }`).join(", ")} }`;
const open = (onChange = (): void => {}) => watchModelsFile({ path, variables: {}, log, onChange });
const names = (): string[] => [...(watched?.file().providers.keys() ?? [])];

test("what is no file, or too large to be read in passing, is refused and not read", async () => {
  path = "/dev/zero";
  await expect(open()).rejects.toMatchObject({ code: "invalid_config" });
  path = folder;
  await expect(open()).rejects.toMatchObject({ code: "invalid_config", message: expect.stringContaining("no file") });
  path = join(folder, "large.yaml");
  await writeFile(path, `${fileWith("one")}\n#${"x".repeat(256 * 1024)}`);
  await expect(open()).rejects.toMatchObject({ code: "invalid_config", message: expect.stringContaining("more than") });
});

test("a change is taken over, a file that is not valid or is gone is not, and the next good one is again", async () => {
  await writeFile(path, fileWith("one"));
  let changes = 0;
  watched = await open(() => changes++);
  expect(names()).toEqual(["one"]);

  await writeFile(path, "providers: [");
  await happened.until(() => logged.length === 1);
  expect([names(), changes, logged[0]]).toEqual([
    ["one"],
    0,
    "the models file is not taken over; the last good one stays",
  ]);

  await writeFile(join(folder, "next"), fileWith("one", "two"));
  await rename(join(folder, "next"), path); // as editors and volume mounts replace a file
  await happened.until(() => logged.length === 2);
  expect([names(), changes]).toEqual([["one", "two"], 1]);

  await rm(path);
  await happened.until(() => logged.length === 3);
  expect([names(), changes]).toEqual([["one", "two"], 1]);
});

test("at the start a bad file and a missing one are refused", async () => {
  const refused = { code: "invalid_config", message: expect.stringContaining(`${path}: the models file `) };
  await expect(open()).rejects.toThrow(expect.objectContaining(refused));
  await writeFile(path, "providers: {}\nmodel: {}");
  await expect(open()).rejects.toThrow("/model is not a known field");
});
