import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { loadProfile, ProfileError, parseProfile, profileNames, stepDurationUs } from "./profile.ts";

const folder = join(import.meta.dir, "profiles");
const load = { prefillTokens: 0, decodes: 0, running: 1, kvShare: 0 };

test("every shipped profile is valid, and every file is shipped", async () => {
  const files = [...profileNames.map((name) => `${name}.yaml`), "replay.jsonl"];
  expect(readdirSync(folder).sort()).toEqual(files.sort());
  for (const name of profileNames) expect((await loadProfile(name)).name).toBe(name);
});

test("a profile of one's own is read from its path", async () => {
  expect((await loadProfile(join(folder, "8b-h100.yaml"))).name).toBe("8b-h100");
});

test("what cannot be read is refused by name", async () => {
  await expect(loadProfile("9b")).rejects.toThrow("no profile 9b");
  await expect(loadProfile("/nowhere/at-all.yaml")).rejects.toThrow("cannot be read");
});

test("a bad profile is told all its problems at once", () => {
  const text = readFileSync(join(folder, "instant.yaml"), "utf8");
  const bad = text.replace("jitter: 0", "jitter: 0.5\nwheels: 4").replace("max_num_seqs: 4096", "max_num_seqs: 1.5");
  const problems = (() => {
    try {
      return `no error: ${parseProfile("bad", bad).name}`;
    } catch (error) {
      expect(error).toBeInstanceOf(ProfileError);
      return (error as ProfileError).message;
    }
  })();
  expect(problems).toContain("jitter must be a number from 0 to 0.3");
  expect(problems).toContain("wheels is unknown");
  expect(problems).toContain("max_num_seqs must be a whole number");
  expect(() => parseProfile("none", "- 1")).toThrow("block_size must be");
  expect(() => parseProfile("none", "{")).toThrow("is not YAML");
  expect(() => parseProfile("small", text.replace("num_blocks: 131072", "num_blocks: 16"))).toThrow(
    "at least max_model_len",
  );
});

test("what came later may be left out, and a replay has no times of its own", () => {
  const text = readFileSync(join(folder, "instant.yaml"), "utf8");
  const short = text.replace(/(full_status|max_loras|overhead_us|compile_us): .*\n/g, "");
  expect(parseProfile("short", short)).toMatchObject({ fullStatus: 429, maxLoras: 4, overheadUs: 0, compileUs: 0 });
  expect(() => parseProfile("bad", text.replace("429", "500"))).toThrow("full_status must be 429 or 503");
  const slow = text.replace("decode: 0", "decode: 5");
  expect(() => parseProfile("both", `${slow}\nreplay: own.jsonl`)).toThrow("step_us has no effect beside replay");
  expect(() => parseProfile("number", `${text}\nreplay: 5`)).toThrow("replay must be the path");
  expect(() => parseProfile("none", text.replace(/step_us:\n( .*\n)+/, ""))).toThrow("step_us.decode must be");
});

test("instant takes no time", async () => {
  const profile = await loadProfile("instant");
  expect(stepDurationUs(profile, { prefillTokens: 9_000, decodes: 500, running: 500, kvShare: 1 })).toBe(0);
});

test("8b-h100: 30 ms and 250 us a token of prompt, 12 ms a token of answer, twice that when full", async () => {
  const profile = await loadProfile("8b-h100");
  expect(stepDurationUs(profile, { ...load, prefillTokens: 256 })).toBe(94_000);
  expect(stepDurationUs(profile, { ...load, decodes: 1 })).toBe(12_000);
  expect(stepDurationUs(profile, { ...load, decodes: 16, running: 16 })).toBe(24_000);
});

test("dynamo-poly follows its polynomials", async () => {
  const profile = await loadProfile("dynamo-poly");
  expect(stepDurationUs(profile, { ...load, prefillTokens: 8_192 }) / 1_000).toBeCloseTo(169.14, 1);
  expect(stepDurationUs(profile, { ...load, decodes: 8, kvShare: 0.5 }) / 1_000).toBeCloseTo(26.31, 1);
});
