import { expect, test } from "bun:test";
import { join } from "node:path";
import { loadProfile } from "./profile.ts";
import { loadRecording, parseRecording, pickRecorded } from "./recording.ts";
import { createRng } from "./rng.ts";

test("lines of JSON, in milliseconds, the shortest prompt first", () => {
  const text = '{"prompt_tokens":900,"ttft_ms":120.5,"itl_ms":[11,12.5]}\n\n{"prompt_tokens":10,"ttft_ms":30}\n';
  expect(parseRecording(text).requests).toEqual([
    { promptTokens: 10, ttftUs: 30_000, itlUs: [] },
    { promptTokens: 900, ttftUs: 120_500, itlUs: [11_000, 12_500] },
  ]);
});

test("what vllm bench serve writes, in seconds; failed requests are left out", () => {
  const result = { backend: "vllm", input_lens: [7, 9, 3], ttfts: [0.03, 0, 0.05], itls: [[0.01, 0.02], [], [0.03]] };
  expect(parseRecording(JSON.stringify(result, null, 2)).requests).toEqual([
    { promptTokens: 3, ttftUs: 50_000, itlUs: [30_000] },
    { promptTokens: 7, ttftUs: 30_000, itlUs: [10_000, 20_000] },
  ]);
});

test("what is no recording is refused, with its place", async () => {
  const refused: readonly [text: string, why: string][] = [
    ["", "is empty"],
    ["{", "line 1 of the recording is no JSON object"],
    ['{"ttft_ms":1}\n[]', "line 2 of the recording is no JSON object"],
    ['{"ttft_ms":1}\n\n{"ttft_ms":-1}', "line 3 of the recording: ttft_ms must be a number"],
    ['{"ttft_ms":1,"itl_ms":["x"]}', "line 1 of the recording: itl_ms must be a list of numbers"],
    ['{"ttft_ms":1e12}', "ttft_ms must be a number from 0 to an hour"],
    ['{"ttft_ms":1,"prompt_tokens":1.5}', "prompt_tokens must be a whole number"],
    ['{"ttft_ms":1,"itls":[]}', "unknown field itls"],
    ['{"ttft_ms":1}\n{"ttft_ms":1,"prompt_tokens":4}', "either all requests"],
    ['{"ttfts":[1],"itls":[]}', "lists of the same length"],
    ['{"ttfts":[1],"itls":[[-1]]}', "request 0 of the recording: itls must be"],
  ];
  for (const [text, why] of refused) expect(() => parseRecording(text)).toThrow(why);
  await expect(loadRecording("/nowhere/at-all.jsonl")).rejects.toThrow("cannot be read");
});

test("a request gets one of about its length by its own seed, else the nearest", () => {
  const recording = parseRecording(
    [5, 10, 11, 12, 20, 5_000].map((tokens) => `{"prompt_tokens":${tokens},"ttft_ms":${tokens}}`).join("\n"),
  );
  const pick = (tokens: number, seed: string) => pickRecorded(recording, tokens, createRng(seed)).promptTokens;
  expect(pick(11, "a")).toBe(pick(11, "a"));
  const drawn = new Set(Array.from({ length: 50 }, (_, index) => pick(11, `${index}`)));
  expect([...drawn].sort()).toEqual([10, 11, 12, 20]);
  expect([pick(1, "a"), pick(100, "a"), pick(4_000, "a"), pick(50_000, "a")]).toEqual([5, 20, 5_000, 5_000]);
  const unknown = parseRecording('{"ttft_ms":1}\n{"ttft_ms":2}');
  const ttfts = Array.from({ length: 20 }, (_, index) => pickRecorded(unknown, 50, createRng(`${index}`)).ttftUs);
  expect(new Set(ttfts)).toEqual(new Set([1_000, 2_000]));
});

test("the shipped one can be replayed, and a path of one's own stands in its place", async () => {
  const shipped = await loadProfile("replay");
  const { requests } = await loadRecording(shipped.replay ?? "");
  expect(requests.length).toBeGreaterThan(20);
  const own = await loadProfile("/somewhere/own.jsonl");
  expect(own).toEqual({ ...shipped, replay: "/somewhere/own.jsonl" });
  expect(shipped.replay).toBe(join(import.meta.dir, "profiles/replay.jsonl"));
});
