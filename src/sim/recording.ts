// Recorded times of a real server, for the engine to replay: when the first token of a request came, and each after it.
// Read when the simulator starts, from lines of JSON or from what `vllm bench serve --save-result --save-detailed`
// writes. Each request is given one recorded one by its own seed; nothing here waits.
import { isRecord } from "./chat-request.ts";
import type { Rng } from "./rng.ts";
import { SettingsError } from "./settings-error.ts";

export interface RecordedRequest {
  /** Null where the recording does not say. */
  readonly promptTokens: number | null;
  readonly ttftUs: number;
  /** Between tokens, in their order; may be empty. */
  readonly itlUs: readonly number[];
}

export interface Recording {
  /** At least one; the shortest prompt first. Either all say how long it was or none. */
  readonly requests: readonly RecordedRequest[];
}

const FILE_BYTES_MAX = 64 * 1024 * 1024;
const GAP_MS_MAX = 3_600_000;
const PROMPT_TOKENS_MAX = 1_000_000_000;
/** Prompts of other lengths say little: a request takes one at most so many times longer or shorter, where there is one. */
const LENGTH_RATIO_MAX = 2;

/** Throws SettingsError. */
export async function loadRecording(path: string): Promise<Recording> {
  const file = Bun.file(path);
  if (!(await file.exists())) throw new SettingsError(`the recording ${path} cannot be read`);
  if (file.size > FILE_BYTES_MAX)
    throw new SettingsError(`the recording ${path} has more than ${FILE_BYTES_MAX} bytes`);
  return parseRecording(await file.text());
}

/** Lines of `{"prompt_tokens": 512, "ttft_ms": 94.2, "itl_ms": [11.8, 12.3]}`, or vLLM's own. Throws SettingsError. */
export function parseRecording(text: string): Recording {
  const lines = text.split("\n").flatMap((line, index) => (line.trim() === "" ? [] : [{ line, number: index + 1 }]));
  const whole = parsed(text);
  const requests =
    isRecord(whole) && "ttfts" in whole
      ? ofBenchmark(whole)
      : lines.map(({ line, number }) => ofLine(parsed(line), `line ${number}`));
  if (requests.length === 0) throw new SettingsError("the recording is empty");
  if (new Set(requests.map(({ promptTokens }) => promptTokens === null)).size > 1) {
    throw new SettingsError("either all requests of the recording have prompt_tokens or none");
  }
  return { requests: requests.sort((one, other) => (one.promptTokens ?? 0) - (other.promptTokens ?? 0)) };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function ofLine(value: unknown, where: string): RecordedRequest {
  if (!isRecord(value)) throw new SettingsError(`${where} of the recording is no JSON object`);
  const unknown = Object.keys(value).find((name) => !["prompt_tokens", "ttft_ms", "itl_ms"].includes(name));
  if (unknown !== undefined) throw new SettingsError(`${where} of the recording has an unknown field ${unknown}`);
  const { prompt_tokens: tokens = null, ttft_ms: ttft, itl_ms: gaps = [] } = value;
  return requestOf({ tokens, ttft, gaps, unitMs: 1 }, where, ["prompt_tokens", "ttft_ms", "itl_ms"]);
}

/** Seconds, one list a request; failed requests have no time to the first token. */
function ofBenchmark({ ttfts, itls, input_lens: lengths }: Readonly<Record<string, unknown>>): RecordedRequest[] {
  if (!Array.isArray(ttfts) || !Array.isArray(itls) || itls.length !== ttfts.length) {
    throw new SettingsError("ttfts and itls of the recording must be lists of the same length");
  }
  const tokensOf = (index: number): unknown => (Array.isArray(lengths) ? (lengths[index] ?? null) : null);
  return ttfts.flatMap((ttft: unknown, index) => {
    if (ttft === 0) return [];
    const given = { tokens: tokensOf(index), ttft, gaps: itls[index] as unknown, unitMs: 1_000 };
    return [requestOf(given, `request ${index}`, ["input_lens", "ttfts", "itls"])];
  });
}

interface Given {
  readonly tokens: unknown;
  readonly ttft: unknown;
  readonly gaps: unknown;
  /** Milliseconds in its unit. */
  readonly unitMs: number;
}

function requestOf({ tokens, ttft, gaps, unitMs }: Given, where: string, names: readonly string[]): RecordedRequest {
  const [tokensName, ttftName, gapsName] = names;
  const refuse = (name = "", what: string): never => {
    throw new SettingsError(`${where} of the recording: ${name} must be ${what}`);
  };
  const isTime = (value: unknown): value is number =>
    typeof value === "number" && value >= 0 && value * unitMs <= GAP_MS_MAX;
  if (tokens !== null && !(Number.isInteger(tokens) && Number(tokens) >= 0 && Number(tokens) <= PROMPT_TOKENS_MAX)) {
    refuse(tokensName, "a whole number");
  }
  if (!isTime(ttft)) return refuse(ttftName, "a number from 0 to an hour");
  if (!Array.isArray(gaps) || !gaps.every(isTime)) return refuse(gapsName, "a list of numbers from 0 to an hour");
  const perUnit = unitMs * 1_000;
  return {
    promptTokens: tokens as number | null,
    ttftUs: ttft * perUnit,
    itlUs: gaps.map((gap) => gap * perUnit),
  };
}

/** One of those whose prompt was about as long, else the nearest; of all where no lengths are known. */
export function pickRecorded({ requests }: Recording, promptTokens: number, random: Rng): RecordedRequest {
  const anyLength = requests[0]?.promptTokens === null;
  const from = anyLength ? 0 : firstWith(requests, promptTokens / LENGTH_RATIO_MAX);
  const to = anyLength ? requests.length : firstWith(requests, promptTokens * LENGTH_RATIO_MAX + 1);
  const drawn = from + Math.floor(random() * (to - from));
  const [below, above] = [requests[from - 1], requests[drawn]];
  if (to > from && above) return above;
  const distance = (one: RecordedRequest): number => Math.abs((one.promptTokens ?? 0) - promptTokens);
  const nearest = below && above ? (distance(below) < distance(above) ? below : above) : (below ?? above);
  return nearest ?? { promptTokens: null, ttftUs: 0, itlUs: [] };
}

/** The first whose prompt has at least so many tokens, by halving. */
function firstWith(requests: readonly RecordedRequest[], tokens: number): number {
  let [low, high] = [0, requests.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((requests[middle]?.promptTokens ?? 0) < tokens) low = middle + 1;
    else high = middle;
  }
  return low;
}
