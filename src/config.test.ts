import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import fc from "fast-check";
import { type Config, DEVELOPMENT_KEY, loadClientConfig, loadConfig } from "./config.ts";
import { type AppError, asAppError } from "./errors.ts";
import { parseDurationMs } from "./settings.ts";

function refused(env: Record<string, string>): AppError {
  try {
    loadConfig(env);
  } catch (error) {
    const known = asAppError(error);
    if (known) return known;
    throw error;
  }
  throw new Error("it was accepted");
}
const problemsOf = (env: Record<string, string>): string[] => refused(env).fields.map((field) => field.path);

describe("parseDurationMs", () => {
  const units = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, "": 1_000 } as const;

  test("reads a whole number and a unit", () => {
    const unit = fc.constantFrom(...(Object.keys(units) as (keyof typeof units)[]));
    fc.assert(
      fc.property(fc.nat({ max: 999_999_999 }), unit, (count, name) => {
        expect(parseDurationMs(`${count}${name}`)).toBe(count * units[name]);
      }),
    );
  });

  test("any other text is null", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const ms = parseDurationMs(text);
        expect(ms === null || /^\d{1,9}(ms|s|m|h|d)?$/.test(text)).toBe(true);
      }),
    );
    for (const text of ["", "s", "-1s", "1.5h", "1 h", "1w", "1h30m", "1S", "1s\n", "0x10", "1e3", "1234567890s"]) {
      expect(parseDurationMs(text)).toBeNull();
    }
  });
});

describe("the server of language models", () => {
  test("gets /v1 where its URL has no path; {gpu} stays where it is", () => {
    const urls = {
      "http://127.0.0.1:8001": "http://127.0.0.1:8001/v1",
      "http://127.0.0.1:8001/": "http://127.0.0.1:8001/v1",
      "https://x.example/openai/v1/": "https://x.example/openai/v1",
      "http://127.0.0.1:800{gpu}": "http://127.0.0.1:800{gpu}/v1",
      "http://host-{gpu}:8000/v2": "http://host-{gpu}:8000/v2",
    };
    for (const [given, url] of Object.entries(urls)) expect(loadConfig({ LLM_BASE_URL: given }).llm.baseUrl).toBe(url);
    expect(loadConfig({}).llm).toEqual({ baseUrl: null, apiKey: null, model: null, modelsFile: null, command: null });
  });

  test("is the actor's own with VLLM_COMMAND", () => {
    const { llm } = loadConfig({ VLLM_COMMAND: "vllm serve x --port {port}", MODELS_FILE: "some.yaml" });
    expect(llm).toMatchObject({ baseUrl: "http://127.0.0.1:{port}/v1", command: "vllm serve x --port {port}" });
    expect(isAbsolute(llm.modelsFile ?? "")).toBe(true);
  });

  test.each([
    [{ LLM_BASE_URL: "gpu-host:8001" }, "LLM_BASE_URL"],
    [{ LLM_BASE_URL: "http://user:password@x" }, "LLM_BASE_URL"],
    [{ LLM_BASE_URL: "http://x/v1?key=1" }, "LLM_BASE_URL"],
    [{ LLM_API_KEY: "two words" }, "LLM_API_KEY"],
    [{ ENV: "prod", API_KEYS: "0123456789abcdef0", LLM_API_KEY: "token-abc123" }, "LLM_API_KEY"],
    [{ VLLM_COMMAND: "vllm serve x" }, "VLLM_COMMAND"],
    [{ VLLM_COMMAND: "vllm serve x --port {port}", LLM_BASE_URL: "http://x" }, "VLLM_COMMAND"],
  ] as [Record<string, string>, string][])("%j is told", (env, name) => {
    expect(problemsOf(env)).toEqual([name]);
    for (const value of [env.LLM_API_KEY, env.LLM_BASE_URL]) {
      if (value) expect(refused(env).message).not.toContain(value);
    }
  });
});

describe("loadConfig", () => {
  test("needs nothing in development", () => {
    const config = loadConfig({});
    expect(config).toMatchObject({
      env: "dev",
      host: "127.0.0.1",
      port: 8000,
      natsUrl: null,
      natsPort: 0,
      partitions: null,
      durability: "fsync",
      s3: null,
      apiKeys: [{ id: "dev", secret: DEVELOPMENT_KEY }],
      gpuIds: ["0"],
      models: ["*"],
      taskTtlMs: 86_400_000,
      historyTtlMs: 30 * 86_400_000,
    } satisfies Partial<Config>);
    expect(isAbsolute(config.dataDir) && isAbsolute(config.pluginsDir)).toBe(true);
  });

  test("a setting of blanks is one that is not set", () => {
    const blank = Object.fromEntries(
      ["ENV", "PORT", "API_KEYS", "GPU_IDS", "TASK_TTL", "NATS_URL", "S3_ENDPOINT", "LOG_LEVEL"].map((n) => [n, "  "]),
    );
    expect(loadConfig(blank)).toEqual(loadConfig({}));
  });

  test("reports every problem at once, each under its name", () => {
    const env = {
      ENV: "staging",
      PORT: "65536",
      NATS_PORT: "-1",
      PARTITIONS: "0",
      DURABILITY: "maybe",
      LOG_LEVEL: "loud",
      TASK_TTL: "soon",
      HISTORY_TTL: "999ms",
      API_KEYS: "a b:secret-one",
      GPU_IDS: "0,../1",
      S3_ENDPOINT: "http://127.0.0.1:9000",
    };
    const names = [...Object.keys(env).filter((name) => name !== "S3_ENDPOINT"), "S3_ACCESS_KEY", "S3_SECRET_KEY"];
    expect(problemsOf(env).sort()).toEqual(names.sort());
    const { code, message } = refused(env);
    expect(code).toBe("invalid_config");
    for (const name of names) expect(message).toContain(name);
  });

  test("no message holds a secret, whatever is wrong with it", () => {
    const secret = fc.stringMatching(/^[ -~éß]{6,40}$/).map((text) => `s3cr3t${text.replaceAll(",", "")}`);
    fc.assert(
      fc.property(secret, secret, (a, b) => {
        const env = {
          ENV: "prod",
          PORT: "x",
          API_KEYS: `one:${a},one:${b},bad name:${a},${a} ${b}é`,
          S3_ENDPOINT: "http://127.0.0.1:9000",
          S3_SECRET_KEY: b,
        };
        const error = refused(env);
        const said = JSON.stringify([error.message, error.fields, String(error.stack)]);
        expect(said).not.toContain("s3cr3t");
      }),
    );
  });

  test.each([
    ["PORT", ["0", "65535"], ["65536", "-1", "80.0", "1e3", "0x50", "eighty"]],
    ["PARTITIONS", ["1", "64"], ["0", "65", "2.5"]],
    ["DURABILITY", ["fsync", "FAST"], ["always"]],
    ["TASK_TTL", ["1s", "30", "3650d"], ["0", "999ms", "-1s", "3651d", "999999999d"]],
    ["HISTORY_TTL", ["30d"], ["1y", "999999999d"]],
    [
      "CORS_ORIGINS",
      ["https://a.example", "http://localhost:5173,https://b.example:8443"],
      [
        "*",
        "null",
        "https://a.example/",
        "https://*.a.example",
        "a.example",
        "https://A.example",
        "https://a.example:443",
        "file:///x",
      ],
    ],
    ["GPU_IDS", ["0,1", "GPU-8f7e", "MIG-1"], ["0,0", "a/b", "a.b", ",", "a b"]],
  ])("%s takes %p and refuses %p", (name, good, bad) => {
    for (const value of good) expect(() => loadConfig({ [name]: value })).not.toThrow();
    for (const value of bad)
      expect({ value, problems: problemsOf({ [name]: value }) }).toEqual({ value, problems: [name] });
  });

  test("more GPUs than a machine has are refused", () => {
    const ids = Array.from({ length: 65 }, (_, i) => String(i));
    expect(problemsOf({ GPU_IDS: ids.join(",") })).toEqual(["GPU_IDS"]);
    expect(loadConfig({ GPU_IDS: ids.slice(0, 64).join(",") }).gpuIds).toHaveLength(64);
  });

  test("keys with and without a name, a colon inside a key", () => {
    const { apiKeys } = loadConfig({ API_KEYS: "alice:one, two ,bob:thr:ee," });
    expect(apiKeys.map((key) => key.secret)).toEqual(["one", "two", "thr:ee"]);
    expect(apiKeys.map((key) => key.id)).toEqual(["alice", expect.stringMatching(/^key-[0-9a-f]{8}$/), "bob"]);
    // The name of a nameless key owns tasks: it must not change.
    expect(apiKeys[1]?.id).toBe(loadConfig({ API_KEYS: "x:y,two" }).apiKeys[1]?.id ?? "");
  });

  test.each([
    ["a name twice", "a:one,a:two"],
    ["a key twice, so that nobody can say whose a task is", "a:same,b:same"],
    ["a key without characters", "a:"],
    ["a key that no header can carry", "a:sch\u00f6n"],
    ["a key that is too long", `a:${"x".repeat(257)}`],
    ["a name that is none", "a.b:one"],
    ["a name like the id of a stored key", "mr_4f0k2m7q9x1t:one"],
  ])("%s is refused", (_, value) => {
    expect(problemsOf({ API_KEYS: value })).toEqual(["API_KEYS"]);
  });

  test("prod refuses what is for development", () => {
    expect(loadConfig({ ENV: "prod" }).apiKeys).toEqual([]); // those that are stored are enough
    expect(problemsOf({ ENV: "PROD", API_KEYS: `a:one,b:${DEVELOPMENT_KEY}` })).toEqual(["API_KEYS"]);
    const strong = "a:one-of-sixteen-letters";
    expect(problemsOf({ ENV: "prod", API_KEYS: strong, FETCH_ALLOW_HOSTS: "localhost" })).toEqual([
      "FETCH_ALLOW_HOSTS",
    ]);
    expect(loadConfig({ ENV: "prod", API_KEYS: strong }).apiKeys).toEqual([{ id: "a", secret: strong.slice(2) }]);
    expect(problemsOf({ ENV: "prod", API_KEYS: "a:fifteen-letters" })).toEqual(["API_KEYS"]);
  });

  test("prod refuses the secrets that everybody can read: of .env.example, and of MinIO", () => {
    const example = readFileSync(join(import.meta.dir, "../.env.example"), "utf8");
    const [, keys = ""] = /^#API_KEYS=(.+)$/m.exec(example) ?? [];
    for (const entry of keys.split(",")) expect(problemsOf({ ENV: "prod", API_KEYS: entry })).toEqual(["API_KEYS"]);
    const store = { S3_ENDPOINT: "http://s:9000", S3_ACCESS_KEY: "minioadmin", S3_SECRET_KEY: "minioadmin" };
    expect(problemsOf({ ENV: "prod", ...store })).toEqual(["S3_SECRET_KEY"]);
    expect(loadConfig({ ...store, API_KEYS: keys }).s3?.secretKey).toBe("minioadmin");
  });

  test("the aliases of MinIO are taken, the S3 names go first", () => {
    const minio = { MINIO_ENDPOINT: "http://m:9000", MINIO_ACCESS_KEY: "ma", MINIO_SECRET_KEY: "ms" };
    expect(loadConfig(minio).s3).toEqual({
      endpoint: "http://m:9000",
      accessKey: "ma",
      secretKey: "ms",
      bucket: "millrace",
    });
    expect(loadConfig({ ...minio, S3_ENDPOINT: "http://s:9000", S3_BUCKET: "b" }).s3).toMatchObject({
      endpoint: "http://s:9000",
      bucket: "b",
    });
  });
});

test("the development key is none where others than this machine can ask", () => {
  for (const HOST of ["127.0.0.1", "localhost", "::1"]) expect(loadConfig({ HOST }).apiKeys).toHaveLength(1);
  for (const HOST of ["0.0.0.0", "::", "10.0.0.7"]) expect(loadConfig({ HOST }).apiKeys).toEqual([]);
});

test.each([
  [{}, "http://127.0.0.1:8000", "dev-key"],
  [{ PORT: "9000", HOST: "0.0.0.0", API_KEYS: "web:one,two" }, "http://127.0.0.1:9000", "one"],
  [{ HOST: "::1" }, "http://[::1]:8000", "dev-key"],
  [{ MILLRACE_URL: "http://localhost:1/", API_KEYS: "one" }, "http://localhost:1", "one"],
  [{ MILLRACE_URL: "https://x.example/gpu/", MILLRACE_API_KEY: "k", PORT: "?" }, "https://x.example/gpu", "k"],
])("a client with %p finds %s", (env, url, apiKey) => {
  expect(loadClientConfig(env)).toEqual({ url, apiKey });
});

test.each([
  [{ MILLRACE_URL: "https://x.example" }, "MILLRACE_API_KEY must be set for x.example"],
  [{ MILLRACE_URL: "http://127.0.0.1.x.example", API_KEYS: "secret" }, "MILLRACE_API_KEY must be set"],
  [{ MILLRACE_URL: "https://key@x.example", MILLRACE_API_KEY: "k" }, "without a key in it"],
  [{ MILLRACE_URL: "file:///x", MILLRACE_API_KEY: "k" }, "must be a URL"],
  [{ MILLRACE_API_KEY: "two\nlines" }, "must be visible ASCII"],
  [{ PORT: "0" }, "MILLRACE_URL must be set"],
  [{ HOST: "0.0.0.0" }, "MILLRACE_API_KEY must be set for 127.0.0.1:8000"],
  [{ PORT: "no" }, "PORT must be"],
])("a client with %p is told what is missing", (env, message) => {
  expect(() => loadClientConfig(env)).toThrow(message);
  expect(() => loadClientConfig(env)).not.toThrow("secret");
});

describe("webhooks", () => {
  const prod = { ENV: "prod", API_KEYS: "web:0123456789abcdef-long" };
  const secret = "a-secret-of-24-characters";

  test("have a secret in development, and none in prod where nobody set one", () => {
    expect(loadConfig({}).webhookSecrets.length).toBe(1);
    expect(loadConfig(prod).webhookSecrets).toEqual([]);
    expect(loadConfig({ ...prod, WEBHOOK_SECRET: `${secret}, old-${secret}` }).webhookSecrets).toEqual([
      secret,
      `old-${secret}`,
    ]);
  });

  test.each([
    ["a short secret", { WEBHOOK_SECRET: `${secret},short` }],
    ["five secrets", { WEBHOOK_SECRET: [1, 2, 3, 4, 5].map((n) => `${n}-${secret}`).join() }],
    ["the development secret in prod", { ...prod, WEBHOOK_SECRET: loadConfig({}).webhookSecrets[0] ?? "" }],
  ])("%s is refused, and not said", (_name, env) => {
    const error = refused(env);
    expect(error.fields.map(({ path }) => path)).toEqual(["WEBHOOK_SECRET"]);
    expect(error.message).not.toMatch(/short|of-24|not-for-production/);
  });

  test.each(["soon", "5s,,x", "0s", "5s,-1s", Array(21).fill("1s").join()])("waits of %p are refused", (text) => {
    expect(problemsOf({ WEBHOOK_RETRIES: text })).toEqual(["WEBHOOK_RETRIES"]);
  });
});
