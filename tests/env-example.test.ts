// .env.example is the operator's list of settings: it names every one, and what it sets is the default.
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { loadConfig } from "../src/config.ts";

const root = join(import.meta.dir, "..");
const lines = readFileSync(join(root, ".env.example"), "utf8").split("\n");
/** Other names of the S3 settings, which `config.ts` takes too. */
const aliases = /^MINIO_/;

test("it names every setting that the configuration reads, and no other", () => {
  const source = readFileSync(join(root, "src/config.ts"), "utf8");
  const read = [...source.matchAll(/(?:text|integer|durationMs|durationsMs|oneOf)\("([A-Z0-9_]+)"/g)].map(
    (match) => match[1] ?? "",
  );
  const listed = lines.flatMap((line) => /^#?([A-Z0-9_]+)=/.exec(line)?.[1] ?? []);
  expect(listed.sort()).toEqual([...new Set(read)].filter((name) => !aliases.test(name)).sort());
});

test("what it sets are the defaults", () => {
  const set = lines.filter((line) => /^[A-Z0-9_]+=/.test(line)).map((line) => line.split(/=(.*)/).slice(0, 2));
  expect(loadConfig(Object.fromEntries(set) as Record<string, string>)).toEqual(loadConfig({}));
});
