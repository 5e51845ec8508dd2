// models.yaml as it is used: checked whole, variables put in, every problem reported at once with its place and without
// a value. llm-catalogue.ts reads it at the start and whenever it has changed. It reads no file and no environment.
import { parseDocument } from "yaml";
import { AppError, type FieldProblem } from "../errors.ts";
import { compileSchema } from "../registry/schema.ts";
import { BASE_URL_PROBLEM, normalBaseUrl } from "../settings.ts";
import { endpointOf, type LlmEndpoint, type LlmPurpose, type ModelStage, type ProviderKind } from "./llm-models.ts";
import { fileSchema, type RawFile, type RawModel, type RawProvider } from "./models-schema.ts";

/** Limits of waiting for a model server. */
export interface ProviderTimeouts {
  readonly connectMs: number;
  /** From the request to the first content. */
  readonly firstTokenMs: number;
  readonly betweenTokensMs: number;
  readonly totalMs: number;
}

export interface ProviderConfig {
  readonly name: string;
  /** Null: as its server says of itself. */
  readonly kind: ProviderKind | null;
  /** Without a slash at the end; `{gpu}` and `{port}` are not yet put in. Null: it is not configured here. */
  readonly baseUrl: string | null;
  readonly apiKey: string | null;
  readonly headers: Readonly<Record<string, string>>;
  /** Its server is asked for its models, which are offered under its own names. */
  readonly discover: boolean;
  /** Each actor has a server of its own. */
  readonly perGpu: boolean;
  readonly timeouts: ProviderTimeouts;
}

export interface VariantConfig {
  readonly name: string;
  readonly provider: string;
  readonly upstreamModel: string;
  readonly weight: number;
}

export interface ModelConfig {
  readonly id: string;
  readonly aliases: readonly string[];
  readonly version: string | null;
  readonly stage: ModelStage | null;
  readonly variants: readonly VariantConfig[];
  readonly fallbacks: readonly string[];
  /** Calls at once, over all its variants, that one gateway lets through. Null: no limit of its own. */
  readonly inFlightMax: number | null;
  /** Null: whatever its servers answer. */
  readonly endpoints: readonly LlmEndpoint[] | null;
}

export interface ModelsFile {
  readonly providers: ReadonlyMap<string, ProviderConfig>;
  readonly models: ReadonlyMap<string, ModelConfig>;
  /** The model for a purpose where none is named: an id or alias of this file, or a name that a server will offer. */
  readonly defaults: Readonly<Partial<Record<LlmPurpose, string>>>;
}

/** Variables that `${NAME}` and `${NAME:-default}` stand for. */
export type Variables = Readonly<Record<string, string | undefined>>;

/** Where a text of the file may hold a variable. */
const VARIABLE = /\$\{([A-Z_][A-Z0-9_]*)(?::-([^}]*))?\}/g;

/** A connection is quick or hopeless; the total is the limit of OpenAI's own SDKs. */
const defaultTimeouts: ProviderTimeouts = {
  connectMs: 2_000,
  firstTokenMs: 60_000,
  betweenTokensMs: 30_000,
  totalMs: 600_000,
};

/** The file behind `text`. Throws `invalid_config` with every problem as a field, never with a value. */
export function parseModelsFile(text: string, variables: Variables): ModelsFile {
  const document = parseDocument(text);
  if (document.errors.length > 0) {
    const at = (offset: number): number => text.slice(0, offset).split("\n").length;
    // Not in its own words: they quote the line, which may hold a key.
    throw invalid(document.errors.map(({ code, pos }) => ({ path: "", message: `line ${at(pos[0])}: ${code}` })));
  }
  const problems: FieldProblem[] = [];
  const filled = fill(withoutEmpty(document.toJS()), "", variables, problems);
  problems.push(...compileSchema(fileSchema)(filled));
  if (problems.length > 0) throw invalid(problems);
  const raw = filled as RawFile;
  const file: ModelsFile = {
    providers: new Map(Object.entries(raw.providers).map(([name, one]) => [name, providerOf(name, one, problems)])),
    models: new Map(Object.entries(raw.models ?? {}).map(([id, one]) => [id, modelOf(id, one)])),
    defaults: Object.fromEntries(Object.entries(raw.defaults ?? {}).filter(([, name]) => name !== "")),
  };
  problems.push(...nameProblems(file), ...variantProblems(file), ...fallbackProblems(file));
  if (problems.length > 0) throw invalid(problems);
  return file;
}

function invalid(problems: readonly FieldProblem[]): AppError {
  const lines = problems.map(({ path, message }) => `${path} ${message}`.trim()).join("; ");
  return new AppError("invalid_config", `the models file is not valid: ${lines}`, { fields: problems });
}

/** Without headings that have nothing but comments below them. */
const withoutEmpty = (value: unknown): unknown =>
  typeof value === "object" && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).filter(([, part]) => part !== null))
    : (value ?? {});

/** The value with its variables put in: after the YAML is parsed, so that none of them can add to its structure. */
function fill(value: unknown, path: string, variables: Variables, problems: FieldProblem[]): unknown {
  if (typeof value === "string") {
    return value.replace(VARIABLE, (_, name: string, fallback: string | undefined) => {
      const found = variables[name] || fallback;
      if (found === undefined) problems.push({ path, message: `needs ${name}, which is not set` });
      return found ?? "";
    });
  }
  if (Array.isArray(value)) return value.map((item, index) => fill(item, `${path}/${index}`, variables, problems));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, fill(item, `${path}/${key}`, variables, problems)]),
  );
}

function providerOf(name: string, raw: RawProvider, problems: FieldProblem[]): ProviderConfig {
  const { connect_ms, first_token_ms, between_tokens_ms, total_ms } = raw.timeouts ?? {};
  const baseUrl = raw.base_url === "" ? null : normalBaseUrl(raw.base_url);
  if (raw.base_url !== "" && baseUrl === null) {
    problems.push({ path: `/providers/${name}/base_url`, message: BASE_URL_PROBLEM });
  }
  return {
    name,
    kind: raw.kind ?? null,
    baseUrl,
    apiKey: raw.api_key || null,
    headers: raw.headers ?? {},
    discover: raw.discover ?? false,
    perGpu: baseUrl !== null && /\{(gpu|port)\}/.test(baseUrl),
    timeouts: {
      connectMs: connect_ms ?? defaultTimeouts.connectMs,
      firstTokenMs: first_token_ms ?? defaultTimeouts.firstTokenMs,
      betweenTokensMs: between_tokens_ms ?? defaultTimeouts.betweenTokensMs,
      totalMs: total_ms ?? defaultTimeouts.totalMs,
    },
  };
}

function modelOf(id: string, raw: RawModel): ModelConfig {
  return {
    id,
    aliases: raw.aliases ?? [],
    version: raw.version ?? null,
    stage: raw.stage ?? null,
    variants: raw.variants.map(({ name, provider, model, weight }) => ({
      name: name ?? provider,
      provider,
      upstreamModel: model,
      weight: weight ?? 1,
    })),
    fallbacks: raw.fallbacks ?? [],
    inFlightMax: raw.in_flight_max ?? null,
    endpoints: raw.endpoints ? [...new Set(raw.endpoints.map(endpointOf))] : null,
  };
}

/** A name stands for one model. */
function nameProblems({ models }: ModelsFile): FieldProblem[] {
  const owner = new Map([...models.keys()].map((id) => [id, id]));
  return [...models.values()].flatMap(({ id, aliases }) =>
    aliases.flatMap((alias, index) => {
      const other = owner.get(alias);
      owner.set(alias, id);
      const path = `/models/${id}/aliases/${index}`;
      return other === undefined ? [] : [{ path, message: `is also a name of ${other}` }];
    }),
  );
}

function variantProblems({ models, providers }: ModelsFile): FieldProblem[] {
  return [...models.values()].flatMap(({ id, variants }) => {
    const path = `/models/${id}/variants`;
    const twice = variants.some(({ name }, index) => variants.findIndex((one) => one.name === name) !== index);
    return [
      ...variants.flatMap(({ provider }, index) =>
        providers.has(provider) ? [] : [{ path: `${path}/${index}/provider`, message: "is no provider of this file" }],
      ),
      ...(twice ? [{ path, message: "must have different names; without one a variant has its provider's" }] : []),
      ...(variants.every(({ weight }) => weight === 0)
        ? [{ path, message: "must have one with a weight above 0" }]
        : []),
    ];
  });
}

/** Fallbacks are models of this file, and lead back to none. */
function fallbackProblems({ models }: ModelsFile): FieldProblem[] {
  const unknown = [...models.values()].flatMap(({ id, fallbacks }) =>
    fallbacks.flatMap((name, index) =>
      models.has(name) ? [] : [{ path: `/models/${id}/fallbacks/${index}`, message: "is no model of this file" }],
    ),
  );
  const reaches = (from: string, wanted: string, seen: Set<string>): boolean =>
    (models.get(from)?.fallbacks ?? []).some((next) => {
      if (next === wanted) return true;
      if (seen.has(next)) return false;
      return reaches(next, wanted, seen.add(next));
    });
  const cyclic = [...models.keys()].filter((id) => reaches(id, id, new Set()));
  return [
    ...unknown,
    ...cyclic.map((id) => ({ path: `/models/${id}/fallbacks`, message: "must not lead back to the model itself" })),
  ];
}
