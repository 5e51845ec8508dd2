import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { asAppError } from "../errors.ts";
import { parseModelsFile } from "./models-file.ts";

const problemsOf = (text: string, variables: Record<string, string> = {}): string[] => {
  try {
    parseModelsFile(text, variables);
    return [];
  } catch (error) {
    const known = asAppError(error);
    expect(known?.code).toBe("invalid_config");
    return known?.fields.map(({ path, message }) => `${path}: ${message}`) ?? [];
  }
};
const shipped = readFileSync(join(import.meta.dir, "../../models.yaml"), "utf8");

test("the shipped file is good without any variable, and takes the server of LLM_BASE_URL with one", () => {
  const bare = parseModelsFile(shipped, {});
  expect(bare.providers.get("default")).toMatchObject({ baseUrl: null, apiKey: null, discover: true, kind: null });
  expect([bare.models.size, bare.defaults]).toEqual([0, {}]);
  const set = parseModelsFile(shipped, { LLM_BASE_URL: "http://gpu-host:8001", LLM_API_KEY: "secret" });
  expect(set.providers.get("default")).toMatchObject({ baseUrl: "http://gpu-host:8001/v1", apiKey: "secret" });
});

test("every example of the shipped file is good as it stands", () => {
  const text = shipped.replaceAll(/^( *)#(?=\w| )/gm, "$1");
  // What was prose is no YAML; only lines of the examples are taken.
  const examples = text.split("\n").filter((line) => /^\s*([\w./-]+:|- \{)/.test(line));
  const file = parseModelsFile(examples.join("\n"), { OPENAI_API_KEY: "a", ANTHROPIC_API_KEY: "b" });
  expect([...file.providers.keys()]).toEqual(["default", "vllm", "other", "openai", "anthropic"]);
  expect(file.providers.get("vllm")?.perGpu).toBe(true);
  expect(file.models.get("assistant")?.variants.map(({ name, weight }) => [name, weight])).toEqual([
    ["stable", 95],
    ["canary", 5],
  ]);
  expect(file.defaults).toEqual({ chat: "assistant" });
});

test("so is the example of the manual", () => {
  const manual = readFileSync(join(import.meta.dir, "../../docs/models.md"), "utf8");
  const [, example = ""] = /```yaml\n([\s\S]*?)```/.exec(manual) ?? [];
  const file = parseModelsFile(example, { OPENAI_API_KEY: "a", ANTHROPIC_API_KEY: "b" });
  expect([...file.models.keys()]).toEqual(["assistant", "assistant-cloud"]);
});

test("all problems are told at once, each at its place", () => {
  const text = `
providers:
  one: { base_url: "ftp://x", extra: 1 }
  Two: { base_url: "http://x" }
models:
  m: { variants: [{ provider: one, model: x, weight: -1 }] }
  "a b": { variants: [{ provider: one, model: x }] }
  n: { variants: [], stage: live }
defaults: { chatting: m }
`;
  expect(problemsOf(text).sort()).toEqual([
    "/defaults/chatting: is not a known field",
    "/models/a b: is not a known field",
    "/models/m/variants/0/weight: must be at least 0",
    '/models/n/stage: must be "development", or "staging", or "production", or "archived"',
    "/models/n/variants: must have at least 1 item",
    "/providers/Two: is not a known field",
    "/providers/one/extra: is not a known field",
  ]);
});

test("names that stand for two models, unknown providers and fallbacks that lead back are refused", () => {
  const text = `
providers: { one: { base_url: "ftp://x" } }
models:
  a: { aliases: [b, x], fallbacks: [b], variants: [{ provider: one, model: m }, { provider: one, model: n }] }
  b: { aliases: [x], fallbacks: [c], variants: [{ provider: none, model: m }] }
  c: { fallbacks: [a, gone], variants: [{ provider: one, model: m, weight: 0 }] }
  d: { fallbacks: [a], variants: [{ provider: one, model: m }] }
`;
  expect(problemsOf(text)).toEqual([
    "/providers/one/base_url: must be an http or https URL such as http://127.0.0.1:8001/v1, without a key in it",
    "/models/a/aliases/0: is also a name of b",
    "/models/b/aliases/0: is also a name of a",
    "/models/a/variants: must have different names; without one a variant has its provider's",
    "/models/b/variants/0/provider: is no provider of this file",
    "/models/c/variants: must have one with a weight above 0",
    "/models/c/fallbacks/1: is no model of this file",
    "/models/a/fallbacks: must not lead back to the model itself",
    "/models/b/fallbacks: must not lead back to the model itself",
    "/models/c/fallbacks: must not lead back to the model itself",
  ]);
});

test("variables are put in after the YAML is read: none can add to its structure, and a missing one is named", () => {
  const text = `
providers:
  one: { base_url: "\${URL}", api_key: "\${KEY:-none}", headers: { x-org: "org-\${ORG}" } }
`;
  const url = "http://127.0.0.1:1/v1";
  expect(problemsOf(text)).toEqual([
    "/providers/one/base_url: needs URL, which is not set",
    "/providers/one/headers/x-org: needs ORG, which is not set",
  ]);
  const file = parseModelsFile(text, { URL: url, ORG: "a, b: c } ]" });
  expect(file.providers.get("one")).toMatchObject({
    baseUrl: url,
    apiKey: "none",
    headers: { "x-org": "org-a, b: c } ]" },
  });
  expect(problemsOf(text, { URL: url, ORG: "two\nlines" })).toHaveLength(1);
});

test("no problem repeats a value: a key in the wrong place is not in the log", () => {
  const secret = "sk-very-secret";
  for (const text of [
    `providers: { one: { base_url: ${secret} } }`,
    `providers: { one: { base_url: "http://x", api_key: [${secret}] } }`,
    `providers: { one: { base_url: "http://x", discover: ${secret} } }`,
    `providers:\n  one: { api_key: ${secret}\n  two: [`,
    `providers: ${secret}`,
    `providers: { one: { base_url: "http://user:${secret}@x" } }`,
  ]) {
    const problems = problemsOf(text);
    expect(problems).not.toEqual([]);
    expect(problems.join()).not.toContain(secret);
  }
});
