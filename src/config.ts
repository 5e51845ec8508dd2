// The environment, read once by a composition root and checked whole: every problem is reported in one go, and no
// secret is ever part of a message. `.env` in the working folder is read by Bun before this runs.
import { resolve } from "node:path";
import { AppError, type FieldProblem } from "./errors.ts";
import {
  API_KEY,
  type ApiKey,
  BASE_URL_PROBLEM,
  GPUS_MAX,
  list,
  normalBaseUrl,
  parseApiKeys,
  parseDatabaseUrl,
  parseDurationMs,
  parseGpuIds,
  parseNetworks,
  parseOrigins,
  type Report,
} from "./settings.ts";

export interface Config {
  readonly env: "dev" | "prod";
  readonly host: string;
  readonly port: number;
  /** Absolute. */
  readonly dataDir: string;
  /** `postgres://…`, with its password; null: SQLite in `dataDir`. */
  readonly databaseUrl: string | null;
  /** Connect here and start no broker. */
  readonly natsUrl: string | null;
  /** Port of the embedded broker; 0 takes any free one. */
  readonly natsPort: number;
  readonly natsServerBin: string | null;
  /** Null: as many as the broker holds already, else the default for `durability`. */
  readonly partitions: number | null;
  readonly durability: "fsync" | "fast";
  readonly s3: {
    readonly endpoint: string;
    readonly accessKey: string;
    readonly secretKey: string;
    readonly bucket: string;
  } | null;
  readonly apiKeys: readonly ApiKey[];
  /** Requests that a key may make in a minute, on all gateways together; 0: no limit. */
  readonly rateLimitPerMinute: number;
  /** Tokens of language models that a key may use in a UTC day, on all gateways together; 0: no limit. */
  readonly tokensPerDay: number;
  /** Tasks that have not ended, and bytes of their inputs, that a key may have; 0: no limit. */
  readonly queuedTasksMax: number;
  readonly queuedBytesMax: number;
  /** Addresses and networks whose X-Forwarded-For is believed. */
  readonly trustedProxies: readonly string[];
  readonly gpuIds: readonly string[];
  /** Names or globs of the runners that an actor hosts. */
  readonly models: readonly string[];
  readonly pluginsDir: string;
  /** Hosts (or host:port) that user-given URLs may reach although they are not public. */
  readonly fetchAllowHosts: readonly string[];
  /** Origins, as `URL.origin` writes them, whose pages may call the API. */
  readonly corsOrigins: readonly string[];
  /** Signing secrets of webhooks are derived from these, the newest first; empty: no webhooks. */
  readonly webhookSecrets: readonly string[];
  /** Waits between the attempts to deliver a webhook. */
  readonly webhookRetryMs: readonly number[];
  /** Where an actor serves its metrics. */
  readonly metricsHost: string;
  /** Of the first GPU's actor; the others follow. 0 takes any free one. */
  readonly metricsPort: number;
  readonly sim: {
    readonly host: string;
    /** 0 takes any free one. */
    readonly port: number;
    /** A shipped profile, or the path of a .yaml file. */
    readonly profile: string;
    /** Names that the simulated model answers to; `*` is any. */
    readonly models: readonly string[];
    /** How many times faster than the profile. */
    readonly speedup: number;
    readonly seed: string;
  };
  readonly llm: LlmConfig;
  /** How long a task waits in a row for a model server that is not there, or full. */
  readonly modelWaitMs: number;
  readonly logLevel: string;
  readonly taskTtlMs: number;
  readonly historyTtlMs: number;
}

/** Where language models answer; which ones there are stands in models.yaml. */
export interface LlmConfig {
  /** `http://127.0.0.1:8001/v1`; may hold `{gpu}`, then each actor has a server of its own. Null: none is configured. */
  readonly baseUrl: string | null;
  readonly apiKey: string | null;
  /** The default model. */
  readonly model: string | null;
  /** Absolute; null: models.yaml in the working folder, else the one in the repository. */
  readonly modelsFile: string | null;
  /** By which each actor starts a model server of its own, with `{gpu}` and `{port}`. */
  readonly command: string | null;
}

type Environment = Readonly<Record<string, string | undefined>>;

const DEFAULT_HOST = "127.0.0.1";

/** Whether a server on `host` can be reached from this machine alone. */
export const isLoopback = (host: string): boolean => /^(localhost|127\.\d+\.\d+\.\d+|::1)$/.test(host);

/**
 * The key of a machine where nobody configured one, and that nobody else reaches: everybody knows it. Printed by `up`;
 * refused when ENV=prod.
 */
export const DEVELOPMENT_KEY = "dev-key";

/** Keys that stand in this repository or in another's manual: everybody has them. */
const knownSecrets: ReadonlySet<string> = new Set([
  DEVELOPMENT_KEY,
  "change-me-to-something-long",
  "and-this-one-too",
  "minioadmin",
  "token-abc123",
]);
/** Twelve random characters can be guessed at the speed of a network; sixteen cannot. */
const PROD_KEY_CHARS_MIN = 16;

/** Signs webhooks where nobody configured a secret. Refused when ENV=prod. */
const DEVELOPMENT_WEBHOOK_SECRET = "development-webhook-secret-not-for-production";

/** Standard Webhooks asks for 24 bytes at least. */
const WEBHOOK_SECRET_CHARS_MIN = 24;
/** What is signed with each while one replaces another. */
const WEBHOOK_SECRETS_MAX = 4;
/** Attempts beyond that would outlast what they tell. */
const WEBHOOK_RETRIES_MAX = 20;
/** Ten years. The broker counts ages in nanoseconds, in 64 bits. */
const DURATION_MS_MAX = 3_650 * 86_400_000;

/** The configuration in `env`. Throws `invalid_config` with every problem as a field, never with a value of a secret. */
export function loadConfig(env: Environment): Config {
  const problems: FieldProblem[] = [];
  const problem = (name: string, message: string): void => {
    problems.push({ path: name, message });
  };
  const text = (name: string): string | null => env[name]?.trim() || null;
  const oneOf = <T extends string>(name: string, choices: readonly T[], fallback: T): T => {
    const value = text(name);
    if (value === null) return fallback;
    const found = choices.find((choice) => choice === value.toLowerCase());
    if (!found) problem(name, `must be one of ${choices.join(", ")}`);
    return found ?? fallback;
  };
  const integer = (name: string, min: number, max: number): number | null => {
    const value = text(name);
    if (value === null) return null;
    if (!/^\d+$/.test(value) || Number(value) < min || Number(value) > max) {
      problem(name, `must be a whole number from ${min} to ${max}`);
      return null;
    }
    return Number(value);
  };
  const durationMs = (name: string, fallbackMs: number): number => {
    const value = text(name);
    if (value === null) return fallbackMs;
    const ms = parseDurationMs(value);
    if (ms === null || ms < 1_000 || ms > DURATION_MS_MAX) {
      problem(name, "must be a duration from 1s to 3650d, such as 30s, 15m, 24h or 30d");
    }
    return ms ?? fallbackMs;
  };

  const durationsMs = (name: string, fallback: string): number[] => {
    const values = list(text(name) ?? fallback).map(parseDurationMs);
    const wrong = values.some((ms) => ms === null || ms < 1 || ms > DURATION_MS_MAX);
    if (wrong || values.length > WEBHOOK_RETRIES_MAX) {
      problem(name, `must be at most ${WEBHOOK_RETRIES_MAX} durations with commas between, such as 5s,5m,2h`);
    }
    return values.map((ms) => ms ?? 0);
  };

  const mode = oneOf("ENV", ["dev", "prod"], "dev");
  const fetchAllowHosts = list(text("FETCH_ALLOW_HOSTS"));
  const apiKeys = parseApiKeys(text("API_KEYS"), problem);
  if (mode === "prod") {
    if (apiKeys.some((key) => knownSecrets.has(key.secret)))
      problem("API_KEYS", "holds the development key, or one of an example, while ENV=prod");
    else if (apiKeys.some((key) => key.secret.length < PROD_KEY_CHARS_MIN))
      problem("API_KEYS", `must have at least ${PROD_KEY_CHARS_MIN} characters each when ENV=prod`);
    if (knownSecrets.has(text("S3_SECRET_KEY") ?? text("MINIO_SECRET_KEY") ?? ""))
      problem("S3_SECRET_KEY", "is the one that MinIO starts with while ENV=prod");
    if (fetchAllowHosts.length > 0) problem("FETCH_ALLOW_HOSTS", "must be empty when ENV=prod");
  } else if (apiKeys.length === 0 && isLoopback(text("HOST") ?? DEFAULT_HOST)) {
    apiKeys.push({ id: "dev", secret: DEVELOPMENT_KEY });
  }

  const config: Config = {
    env: mode,
    host: text("HOST") ?? DEFAULT_HOST,
    port: integer("PORT", 0, 65_535) ?? 8000,
    dataDir: resolve(text("DATA_DIR") ?? "./data"),
    databaseUrl: parseDatabaseUrl(text("DATABASE_URL"), problem),
    natsUrl: text("NATS_URL"),
    natsPort: integer("NATS_PORT", 0, 65_535) ?? 0,
    natsServerBin: text("NATS_SERVER_BIN"),
    partitions: integer("PARTITIONS", 1, 64),
    durability: oneOf("DURABILITY", ["fsync", "fast"], "fsync"),
    s3: parseS3(text, problem),
    apiKeys,
    ...keyLimits(integer),
    trustedProxies: parseNetworks("TRUSTED_PROXIES", text("TRUSTED_PROXIES"), problem),
    gpuIds: parseGpuIds(text("GPU_IDS"), problem),
    models: list(text("MODELS") ?? "*"),
    pluginsDir: resolve(text("PLUGINS_DIR") ?? "./plugins"),
    fetchAllowHosts,
    corsOrigins: parseOrigins(list(text("CORS_ORIGINS")), problem),
    webhookSecrets: parseWebhookSecrets(text("WEBHOOK_SECRET"), mode, problem),
    webhookRetryMs: durationsMs("WEBHOOK_RETRIES", "5s,5m,30m,2h,5h,10h,14h"),
    metricsHost: text("METRICS_HOST") ?? "127.0.0.1",
    metricsPort: integer("METRICS_PORT", 0, 65_535 - GPUS_MAX) ?? 0,
    sim: simulatorSettings(text, integer),
    llm: parseLlm(text, mode, problem),
    modelWaitMs: durationMs("MODEL_WAIT", 30 * 60_000),
    logLevel: oneOf("LOG_LEVEL", ["debug", "info", "warn", "error", "silent"], "info"),
    taskTtlMs: durationMs("TASK_TTL", 24 * 3_600_000),
    historyTtlMs: durationMs("HISTORY_TTL", 30 * 24 * 3_600_000),
  };
  if (problems.length > 0) throw invalidConfig(problems);
  return config;
}

function invalidConfig(problems: readonly FieldProblem[]): AppError {
  const lines = problems.map(({ path, message }) => `${path} ${message}`).join("; ");
  return new AppError("invalid_config", lines, { fields: problems });
}

/** A key that means well does not reach those of the queue; what they keep free is told in docs/operations.md. */
const keyLimits = (integer: (name: string, min: number, max: number) => number | null) => ({
  rateLimitPerMinute: integer("RATE_LIMIT_PER_MINUTE", 0, 1_000_000) ?? 0,
  tokensPerDay: integer("TOKENS_PER_DAY", 0, 1_000_000_000_000) ?? 0,
  queuedTasksMax: integer("MAX_QUEUED_TASKS", 0, 10_000_000) ?? 100_000,
  queuedBytesMax: integer("MAX_QUEUED_BYTES", 0, 1_000_000_000_000) ?? 1_073_741_824,
});

const simulatorSettings = (
  text: (name: string) => string | null,
  integer: (name: string, min: number, max: number) => number | null,
) => ({
  host: text("SIM_HOST") ?? DEFAULT_HOST,
  port: integer("SIM_PORT", 0, 65_535) ?? 8001,
  profile: text("SIM_PROFILE") ?? "instant",
  models: list(text("SIM_MODELS") ?? "millrace-sim"),
  speedup: integer("SIM_SPEEDUP", 1, 1_000_000) ?? 1,
  seed: text("SIM_SEED") ?? "0",
  strictCompat: integer("SIM_STRICT_COMPAT", 0, 1) === 1,
  mode: text("SIM_MODE"),
  template: text("SIM_TEMPLATE"),
  dataset: text("SIM_DATASET"),
  script: text("SIM_SCRIPT"),
  scenario: text("SIM_SCENARIO"),
  toolFormat: text("SIM_TOOL_FORMAT") ?? "parsed",
  malformedArguments: text("SIM_MALFORMED_ARGUMENTS") ?? "0",
});

/** Where the commands of a client find a gateway, and with which key. */
export interface ClientConfig {
  /** Without a slash at the end. */
  readonly url: string;
  readonly apiKey: string;
}

/**
 * MILLRACE_URL and MILLRACE_API_KEY; without them the gateway and the first key of this machine's own settings, which
 * are sent to this machine only. Throws `invalid_config`.
 */
export function loadClientConfig(env: Environment): ClientConfig {
  const text = (name: string): string | null => env[name]?.trim() || null;
  const refuse = (name: string, message: string): never => {
    throw new AppError("invalid_config", `${name} ${message}`, { fields: [{ path: name, message }] });
  };
  const given = text("MILLRACE_URL");
  const apiKey = text("MILLRACE_API_KEY");
  const own = given === null || apiKey === null ? loadConfig(env) : null;
  const ownHost = own && ["0.0.0.0", "::"].includes(own.host) ? "127.0.0.1" : own?.host;
  if (given === null && own?.port === 0) refuse("MILLRACE_URL", "must be set where PORT is 0");
  const url = URL.parse(given ?? `http://${ownHost?.includes(":") ? `[${ownHost}]` : ownHost}:${own?.port}`);
  if (url === null || !/^https?:$/.test(url.protocol) || url.username || url.password || url.search || url.hash) {
    return refuse("MILLRACE_URL", "must be a URL such as https://millrace.example.com, without a key in it");
  }
  const here = given === null || isLoopback(url.hostname.replace(/^\[|\]$/g, ""));
  const ownKey = here ? own?.apiKeys[0]?.secret : undefined;
  if (apiKey !== null && !API_KEY.test(apiKey)) refuse("MILLRACE_API_KEY", "must be visible ASCII characters");
  return {
    url: url.href.replace(/\/+$/, ""),
    apiKey: apiKey ?? ownKey ?? refuse("MILLRACE_API_KEY", `must be set for ${url.host}`),
  };
}

function parseWebhookSecrets(value: string | null, mode: Config["env"], problem: Report): string[] {
  const secrets = list(value);
  if (secrets.length === 0) return mode === "prod" ? [] : [DEVELOPMENT_WEBHOOK_SECRET];
  if (secrets.length > WEBHOOK_SECRETS_MAX) problem("WEBHOOK_SECRET", `must be at most ${WEBHOOK_SECRETS_MAX}`);
  if (secrets.some((secret) => secret.length < WEBHOOK_SECRET_CHARS_MIN)) {
    problem("WEBHOOK_SECRET", `must have at least ${WEBHOOK_SECRET_CHARS_MIN} characters each`);
  }
  if (mode === "prod" && secrets.includes(DEVELOPMENT_WEBHOOK_SECRET)) {
    problem("WEBHOOK_SECRET", "is the development secret while ENV=prod");
  }
  return secrets;
}

function parseS3(text: (name: string) => string | null, problem: Report): Config["s3"] {
  const endpoint = text("S3_ENDPOINT") ?? text("MINIO_ENDPOINT");
  if (endpoint === null) return null;
  const accessKey = text("S3_ACCESS_KEY") ?? text("MINIO_ACCESS_KEY");
  const secretKey = text("S3_SECRET_KEY") ?? text("MINIO_SECRET_KEY");
  if (accessKey === null) problem("S3_ACCESS_KEY", "must be set where S3_ENDPOINT is");
  if (secretKey === null) problem("S3_SECRET_KEY", "must be set where S3_ENDPOINT is");
  return { endpoint, accessKey: accessKey ?? "", secretKey: secretKey ?? "", bucket: text("S3_BUCKET") ?? "millrace" };
}

function parseLlm(text: (name: string) => string | null, mode: Config["env"], problem: Report): LlmConfig {
  const given = text("LLM_BASE_URL");
  const apiKey = text("LLM_API_KEY");
  const modelsFile = text("MODELS_FILE");
  const command = text("VLLM_COMMAND");
  const baseUrl = given === null ? null : normalBaseUrl(given);
  if (given !== null && baseUrl === null) problem("LLM_BASE_URL", BASE_URL_PROBLEM);
  if (apiKey !== null && !/^[\x21-\x7e]{1,4096}$/.test(apiKey))
    problem("LLM_API_KEY", "must be visible ASCII characters");
  if (mode === "prod" && apiKey !== null && knownSecrets.has(apiKey))
    problem("LLM_API_KEY", "is one of an example while ENV=prod");
  if (command !== null && given !== null) problem("VLLM_COMMAND", "starts the server that LLM_BASE_URL names: set one");
  if (command !== null && !command.includes("{port}")) problem("VLLM_COMMAND", "must hold {port}, as in --port {port}");
  return {
    baseUrl: command === null ? baseUrl : "http://127.0.0.1:{port}/v1",
    apiKey,
    model: text("LLM_MODEL"),
    modelsFile: modelsFile === null ? null : resolve(modelsFile),
    command,
  };
}
