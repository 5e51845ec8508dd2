// What may go wrong on purpose, as text: `status=503; retry_after=1` or `after=3; cut`. Parsed here for the X-Sim-Fault
// header, for `vllm_xargs.sim_fault` of a body and for the rules of /admin/config; inject.ts carries it out. Pure.

/** One fault of one answer. Several parts may be combined; docs/simulator.md says how each looks on the wire. */
export interface FaultSpec {
  /** Answers with this status and vLLM's error body instead of the work: 400 to 599. */
  readonly status?: number;
  /** Seconds in Retry-After, beside `status`. */
  readonly retry_after?: number;
  /** The text of the error, beside `status` or `error`. */
  readonly message?: string;
  /** All that is sent, beside `status`, as by a proxy: HTML, where `content_type` does not say otherwise. */
  readonly body?: string;
  /** Closes the connection without an answer. */
  readonly reset?: true;
  /** The connection is reset, and new ones are refused for so long. */
  readonly refuse_ms?: number;
  /** Sends nothing at all until the client leaves. */
  readonly hang?: true;
  /** The headers come so much later. */
  readonly delay_ms?: number;
  readonly content_type?: string;
  /** The engine dies: this answer and all to come are 500, and /health is 503, until /admin/config revives it. */
  readonly dead?: true;
  /** Tokens that a stream sends before what follows here happens. 0 where it is not given. */
  readonly after?: number;
  /** Silence of so long, then it goes on. */
  readonly stall_ms?: number;
  /** The socket is reset. */
  readonly cut?: true;
  /** The answer ends as if it were whole, without finish_reason and [DONE]. */
  readonly end?: true;
  /** An error event, then [DONE]: vLLM's form. With `no_done` without it. */
  readonly error?: true;
  /** It ends with the finish reason `abort`, as vLLM ends what it gives up. */
  readonly abort?: true;
  /** One event is no JSON. */
  readonly malformed?: true;
  /** One event comes twice. */
  readonly duplicate?: true;
  /** An event without choices. */
  readonly empty_choices?: true;
  /** So many comment lines. */
  readonly comments?: number;
  /** Of the whole stream: writes of so many bytes each, wherever they cut. */
  readonly split?: number;
  /** So many events in one write. */
  readonly merge?: number;
  /** CRLF at the ends of lines. */
  readonly crlf?: true;
  /** So much longer between tokens. */
  readonly itl_ms?: number;
  /** No [DONE]. */
  readonly no_done?: true;
  /** No usage. */
  readonly no_usage?: true;
  /** The usage counts twice the tokens that came, and one. */
  readonly wrong_usage?: true;
}

export type FaultPart = keyof FaultSpec;

type Kind = "flag" | "text" | { readonly min: number; readonly max: number; readonly fallback?: number };

/** A client that waits longer than a day has no test. */
const MS_MAX = 86_400_000;
/** Nobody can take it back: the socket is closed. */
const REFUSE_MS_MAX = 60_000;
const milliseconds: Kind = { min: 0, max: MS_MAX };

const kinds: Readonly<Record<FaultPart, Kind>> = {
  status: { min: 400, max: 599 },
  retry_after: { min: 0, max: 86_400 },
  message: "text",
  body: "text",
  reset: "flag",
  refuse_ms: { min: 0, max: REFUSE_MS_MAX },
  hang: "flag",
  delay_ms: milliseconds,
  content_type: "text",
  dead: "flag",
  after: { min: 0, max: 1_000_000 },
  stall_ms: milliseconds,
  cut: "flag",
  end: "flag",
  error: "flag",
  abort: "flag",
  malformed: "flag",
  duplicate: "flag",
  empty_choices: "flag",
  comments: { min: 1, max: 1_000_000, fallback: 1_000 },
  split: { min: 1, max: 65_536, fallback: 7 },
  merge: { min: 2, max: 1_000, fallback: 4 },
  crlf: "flag",
  itl_ms: milliseconds,
  no_done: "flag",
  no_usage: "flag",
  wrong_usage: "flag",
};

/** Parts that only say more of another. */
const qualifiers: ReadonlySet<string> = new Set(["retry_after", "message", "body", "after"]);

/** Longer texts are no faults. */
const FAULT_CHARS_MAX = 1_000;

/** A fault that nobody can carry out; the text says why. Becomes 400. */
export class FaultError extends Error {
  override readonly name = "FaultError";
}

/**
 * `part; part=value; …`, in any order, each once. Throws FaultError for an unknown part, a value out of range, and where
 * nothing would happen.
 */
export function parseFault(text: string): FaultSpec {
  if (text.length > FAULT_CHARS_MAX) throw new FaultError(`a fault has at most ${FAULT_CHARS_MAX} characters`);
  const fault: Record<string, unknown> = {};
  for (const piece of text.split(";")) {
    const [, name = "", value = null] = /^([^=]*?)(?:\s*=\s*(.*))?$/.exec(piece.trim()) ?? [];
    if (name === "" && value === null) continue;
    const kind = Object.hasOwn(kinds, name) ? kinds[name as FaultPart] : undefined;
    if (kind === undefined) throw new FaultError(`no fault is named ${JSON.stringify(name)}`);
    if (name in fault) throw new FaultError(`${name} stands twice`);
    fault[name] = parseValue(name, kind, value);
  }
  if (Object.keys(fault).every((name) => qualifiers.has(name))) throw new FaultError("the fault does nothing");
  return fault;
}

function parseValue(name: string, kind: Kind, value: string | null): true | string | number {
  if (kind === "flag") {
    if (value !== null) throw new FaultError(`${name} takes no value`);
    return true;
  }
  if (kind === "text") {
    // One of them becomes a header.
    if (!value || !/^[\x20-\x7e]+$/.test(value)) throw new FaultError(`${name} needs a text of ASCII characters`);
    return value;
  }
  if (value === null && kind.fallback !== undefined) return kind.fallback;
  const number = Number(value);
  if (value === null || !/^\d+$/.test(value) || number < kind.min || number > kind.max) {
    throw new FaultError(`${name} needs a whole number from ${kind.min} to ${kind.max}`);
  }
  return number;
}

/** The parts that do something, for logs and counts: `status`, `cut`, … */
export const effectsOf = (fault: FaultSpec): FaultPart[] =>
  (Object.keys(fault) as FaultPart[]).filter((part) => !qualifiers.has(part));
