// How fast and how large the simulated GPU is: read from profiles/<name>.yaml when the simulator starts, changed live by
// /admin/config. Times are in microseconds, so that what is faster than a millisecond can be said. Anything that is
// missing, unknown or out of range is refused, all of it at once.
import { dirname, join, resolve } from "node:path";
import { parse } from "yaml";
import { isRecord } from "./chat-request.ts";
import { SettingsError } from "./settings-error.ts";

/** The duration of one step: the sum of both parts, at least the floor. A part counts when the step has such tokens. */
export interface StepUs {
  readonly prefillPerTokenSquared: number;
  readonly prefillPerToken: number;
  readonly prefill: number;
  /** `share` is the used part of all blocks, from 0 to 1. */
  readonly decodePerKvShareSquared: number;
  readonly decodePerKvShare: number;
  readonly decode: number;
  readonly floor: number;
}

export interface Profile {
  readonly name: string;
  readonly description: string;
  readonly stepUs: StepUs;
  /** Standard deviation of a step's duration as a part of it, 0 to 0.3; never more than 70% away. */
  readonly jitter: number;
  /** How many times longer a step is with `maxNumSeqs` running than with one. */
  readonly loadFactor: number;
  readonly maxNumSeqs: number;
  /** Tokens of one step, of all sequences together. */
  readonly maxNumBatchedTokens: number;
  /** Tokens in one block. */
  readonly blockSize: number;
  readonly numBlocks: number;
  /** Tokens of prompt and answer together. */
  readonly maxModelLen: number;
  /** Sequences that wait; more are refused with `fullStatus`. */
  readonly maxWaiting: number;
  /** 429, or 503 as servers and proxies behind one say it. */
  readonly fullStatus: number;
  /** Adapters in use at the same time; who needs another one waits. */
  readonly maxLoras: number;
  /** From the arrival of a request until the engine hears of it: what reading and tokenizing it take. */
  readonly overheadUs: number;
  /** More for the first request with a grammar: a structured output, or tools of which one must be called. */
  readonly compileUs: number;
  /** Until /health/ready answers 200. */
  readonly startupMs: number;
  /** The file of recorded times that stand in place of `stepUs`, `jitter` and `loadFactor`; null: none. */
  readonly replay: string | null;
}

export class ProfileError extends SettingsError {
  override readonly name = "ProfileError";
}

const snakeCase = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

const numbers = {
  jitter: [0, 0.3],
  loadFactor: [1, 100],
  maxNumSeqs: [1, 65_536],
  maxNumBatchedTokens: [1, 1_048_576],
  blockSize: [1, 1_024],
  numBlocks: [1, 16_777_216],
  maxModelLen: [2, 16_777_216],
  maxWaiting: [0, 1_048_576],
  fullStatus: [429, 503],
  maxLoras: [1, 1_000],
  overheadUs: [0, 60e6],
  compileUs: [0, 60e6],
  startupMs: [0, 3_600_000],
} as const;
const stepNumbers = {
  prefillPerTokenSquared: [0, 1e6],
  prefillPerToken: [0, 1e6],
  prefill: [0, 60e6],
  decodePerKvShareSquared: [-60e6, 60e6],
  decodePerKvShare: [-60e6, 60e6],
  decode: [0, 60e6],
  floor: [0, 60e6],
} as const;
/** What a file may leave out. */
const defaults: Readonly<Record<string, number>> = { fullStatus: 429, maxLoras: 4, overheadUs: 0, compileUs: 0 };
/** What the file of a replay need not say. */
const untimed = {
  step_us: Object.fromEntries(Object.keys(stepNumbers).map((name) => [snakeCase(name), 0])),
  jitter: 0,
  load_factor: 1,
};
const anyStep: StepLoad = { prefillTokens: 1, decodes: 1, running: 1, kvShare: 1 };
const fractional: ReadonlySet<string> = new Set(["jitter", "loadFactor", ...Object.keys(stepNumbers)]);

/** The profiles that are shipped. */
export const profileNames = ["instant", "8b-h100", "70b-h100-tp8", "3b-l40s", "dynamo-poly", "replay"] as const;

/**
 * A shipped profile by its name, or one of your own by the path of a .yaml file; the path of a recording (.jsonl,
 * .json) is the profile `replay` with it. Throws ProfileError.
 */
export async function loadProfile(name: string): Promise<Profile> {
  if (/\.jsonl?$/.test(name)) return { ...(await loadProfile("replay")), replay: name };
  const own = /\.ya?ml$/.test(name);
  if (!own && !profileNames.some((one) => one === name)) {
    const others = "or the path of a .yaml file or of a recording (.jsonl, .json)";
    throw new ProfileError(`no profile ${name}: one of ${profileNames.join(", ")}, ${others}`);
  }
  const path = own ? name : join(import.meta.dir, "profiles", `${name}.yaml`);
  const text = await Bun.file(path)
    .text()
    .catch(() => {
      throw new ProfileError(`the profile ${name} cannot be read`);
    });
  const profile = parseProfile(own ? name.replace(/^.*\/|\.ya?ml$/g, "") : name, text);
  return profile.replay === null ? profile : { ...profile, replay: resolve(dirname(path), profile.replay) };
}

/** Throws ProfileError with every problem. */
export function parseProfile(name: string, text: string): Profile {
  let value: unknown;
  try {
    value = parse(text);
  } catch (cause) {
    throw new ProfileError(`the profile ${name} is not YAML`, { cause });
  }
  return checkProfile(name, value);
}

/** A profile from the keys of its file, such as `max_num_seqs`. Throws ProfileError with every problem. */
export function checkProfile(name: string, value: unknown): Profile {
  const problems: string[] = [];
  const { replay = null, ...rest } = isRecord(value) ? value : {};
  const given: Readonly<Record<string, unknown>> = replay === null ? rest : { ...untimed, ...rest };
  const steps = isRecord(given.step_us) ? given.step_us : {};
  const read = (from: Readonly<Record<string, unknown>>, ranges: Ranges, path: string) => {
    for (const key of Object.keys(from)) {
      const known = Object.keys(ranges).some((one) => snakeCase(one) === key);
      if (!known && !(path === "" && ["description", "step_us"].includes(key)))
        problems.push(`${path}${key} is unknown`);
    }
    return Object.fromEntries(
      Object.entries(ranges).map(([field, [min, max]]) => {
        const number = from[snakeCase(field)] ?? defaults[field];
        const fits = typeof number === "number" && number >= min && number <= max;
        if (!fits || !(fractional.has(field) || Number.isInteger(number))) {
          const what = fractional.has(field) ? "a number" : "a whole number";
          problems.push(`${path}${snakeCase(field)} must be ${what} from ${min} to ${max}`);
        }
        return [field, number];
      }),
    );
  };
  const profile = {
    name,
    description: typeof given.description === "string" ? given.description : "",
    ...read(given, numbers, ""),
    stepUs: read(steps, stepNumbers, "step_us."),
    replay,
  } as unknown as Profile;
  if (replay !== null && typeof replay !== "string") problems.push("replay must be the path of a recording");
  if (replay !== null && given.step_us !== untimed.step_us && stepDurationUs(profile, anyStep) !== 0) {
    problems.push("step_us has no effect beside replay");
  }
  if (profile.fullStatus > 429 && profile.fullStatus < 503) problems.push("full_status must be 429 or 503");
  // The longest sequence must fit alone: it could otherwise neither end nor make room.
  if (profile.numBlocks * profile.blockSize < profile.maxModelLen) {
    problems.push("num_blocks times block_size must be at least max_model_len");
  }
  if (problems.length > 0) throw new ProfileError(`the profile ${name}: ${problems.join("; ")}`);
  return profile;
}

type Ranges = Readonly<Record<string, readonly [min: number, max: number]>>;

/** What one step works on. */
export interface StepLoad {
  /** New tokens of prompts, those found in the cache left out. */
  readonly prefillTokens: number;
  /** Sequences that get their next token. */
  readonly decodes: number;
  readonly running: number;
  /** 0 to 1. */
  readonly kvShare: number;
}

/** How long a step takes, without jitter. */
export function stepDurationUs({ stepUs, loadFactor, maxNumSeqs }: Profile, load: StepLoad): number {
  const { prefillTokens: tokens, kvShare: share } = load;
  const prefill =
    tokens === 0
      ? 0
      : stepUs.prefillPerTokenSquared * tokens * tokens + stepUs.prefillPerToken * tokens + stepUs.prefill;
  const decode =
    load.decodes === 0
      ? 0
      : stepUs.decodePerKvShareSquared * share * share + stepUs.decodePerKvShare * share + stepUs.decode;
  const crowd = maxNumSeqs > 1 ? (load.running - 1) / (maxNumSeqs - 1) : 0;
  return Math.max(stepUs.floor, (prefill + decode) * (1 + (loadFactor - 1) * crowd));
}
