// Which answers get a fault by the rules of /admin/config: the first rule that meets a request and is due. One per
// simulator, asked by surface.ts. It keeps the counts of its rules; it carries nothing out (inject.ts does).
import { FaultError, type FaultSpec, parseFault } from "./fault.ts";
import { createRng, type Rng } from "./rng.ts";

export interface FaultRule {
  /** All that is named must meet the request; nothing named meets every request. */
  readonly match?: {
    /** The model of the request, as a whole. */
    readonly model?: string;
    /** A text anywhere in the request's JSON. */
    readonly content?: string;
    /** Such as `/v1/embeddings`. Without it a rule meets what is below `/v1` and posted, and nothing else. */
    readonly path?: string;
  };
  /** As `parseFault` reads it. */
  readonly fault: string;
  /** Requests that meet the rule and pass unharmed before it begins. Default 0. */
  readonly skip?: number;
  /** Faults that it injects at most. Default: no limit. */
  readonly times?: number;
  /** Of the requests that meet it, the share that is hit, by a seeded draw: 0 to 1. Default 1. */
  readonly rate?: number;
}

/** What a rule looks at. */
export interface FaultSubject {
  readonly path: string;
  readonly posted: boolean;
  readonly model: string;
  /** The body as JSON writes it. */
  text(): string;
}

export interface FaultRuleState extends FaultRule {
  /** Requests that met the rule. */
  readonly seen: number;
  readonly injected: number;
}

export interface FaultRules {
  /** The fault of the first rule that meets the request and is due. Counts. */
  pick(subject: FaultSubject): FaultSpec | null;
  /** All rules anew, with counts of 0. */
  replace(rules: readonly CheckedRule[]): void;
  list(): readonly FaultRuleState[];
}

export interface CheckedRule {
  readonly rule: FaultRule;
  readonly fault: FaultSpec;
}

/** More would be looked through for every request. */
const RULES_MAX = 1_000;

export function createFaultRules(seed: string): FaultRules {
  let entries: (CheckedRule & { seen: number; injected: number; rng: Rng })[] = [];
  return {
    pick(subject) {
      for (const entry of entries) {
        if (!meets(entry.rule, subject)) continue;
        entry.seen++;
        const { skip = 0, times = Number.POSITIVE_INFINITY, rate = 1 } = entry.rule;
        const drawn = rate === 1 || entry.rng() < rate; // drawn for each that meets it: the nth is always the same draw
        if (entry.seen <= skip || entry.injected >= times || !drawn) continue;
        entry.injected++;
        return entry.fault;
      }
      return null;
    },
    replace(rules) {
      entries = rules.map((rule, index) => ({
        ...rule,
        seen: 0,
        injected: 0,
        rng: createRng(`${seed}/fault/${index}`),
      }));
    },
    list: () => entries.map(({ rule, seen, injected }) => ({ ...rule, seen, injected })),
  };
}

const meets = ({ match = {} }: FaultRule, { path, posted, model, text }: FaultSubject): boolean =>
  (match.model === undefined || match.model === model) &&
  (match.path === undefined ? posted && path.startsWith("/v1/") : match.path === path) &&
  (match.content === undefined || text().includes(JSON.stringify(match.content).slice(1, -1)));

/** `faults` of /admin/config, checked. Throws FaultError. */
export function parseFaultRules(value: unknown): CheckedRule[] {
  if (!Array.isArray(value)) throw new FaultError("faults must be a list");
  if (value.length > RULES_MAX) throw new FaultError(`there may be at most ${RULES_MAX} faults`);
  return value.map((entry: unknown, index) => {
    const where = `faults[${index}]`;
    const rule = fieldsOf(where, entry, ["match", "fault", "skip", "times", "rate"]);
    const match = fieldsOf(`${where}.match`, rule.match ?? {}, ["model", "content", "path"]);
    for (const [name, text] of Object.entries(match)) {
      if (typeof text !== "string") throw new FaultError(`${where}.match.${name} must be a text`);
    }
    if (typeof rule.fault !== "string") throw new FaultError(`${where}.fault must be a text`);
    for (const name of ["skip", "times"]) {
      const count = rule[name];
      if (count !== undefined && !(Number.isSafeInteger(count) && (count as number) >= 0)) {
        throw new FaultError(`${where}.${name} must be a whole number`);
      }
    }
    const { rate } = rule;
    if (rate !== undefined && !(typeof rate === "number" && rate >= 0 && rate <= 1)) {
      throw new FaultError(`${where}.rate must be a number from 0 to 1`);
    }
    return { rule: rule as unknown as FaultRule, fault: parseFault(rule.fault) };
  });
}

function fieldsOf(where: string, value: unknown, known: readonly string[]): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new FaultError(`${where} must be an object`);
  }
  const unknown = Object.keys(value).find((name) => !known.includes(name));
  if (unknown !== undefined) throw new FaultError(`${where} has no field ${unknown}`);
  return value as Record<string, unknown>;
}
