// Reads the file of scenarios (YAML, or JSON, which is YAML too) when the simulator starts, and checks all of it: what is
// wrong is told with its line, each rule's first problem at once, and nothing of the file is used.
import { isMap, isScalar, isSeq, LineCounter, type Node, parseDocument, visit } from "yaml";
import { FaultError, type FaultSpec, parseFault } from "../fault.ts";
import { SettingsError } from "../settings-error.ts";
import type { Moment, Rule, Scenario, ScriptedCall, TextMatch } from "./scenario.ts";
import { parseTemplate, type Template, TemplateError } from "./template.ts";

export type Scenarios = ReadonlyMap<string, Scenario>;

const BYTES_MAX = 16 * 1024 * 1024;
const RULES_MAX = 10_000;
const CALLS_MAX = 128;
const PROBLEMS_MAX = 20;

const ruleFields = ["when", "reasoning", "text", "calls", "finish_reason", "fault"];
const momentFields = ["user", "system", "result", "tool", "turn", "step"];
const finishReasons = ["stop", "length", "tool_calls", "content_filter"] as const;

/** Throws SettingsError with the path and the lines. */
export async function loadScenarios(path: string): Promise<Scenarios> {
  const file = Bun.file(path);
  if (file.size > BYTES_MAX) throw new SettingsError(`${path} has more than ${BYTES_MAX} bytes`);
  const text = await file.text().catch(() => {
    throw new SettingsError(`the script ${path} cannot be read`);
  });
  return parseScenarios(text, path);
}

/** Something at `node` is wrong. */
class Problem extends Error {
  readonly node: Node | null;

  constructor(node: Node | null, message: string) {
    super(message);
    this.node = node;
  }
}

/** Throws SettingsError. */
export function parseScenarios(text: string, path: string): Scenarios {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const problems: string[] = [];
  const report = (offset: number, message: string): void => {
    problems.push(`${path}:${lines.linePos(offset).line}: ${message}`);
  };
  for (const error of document.errors) report(error.pos[0], error.message);
  const scenarios = new Map<string, Scenario>();
  /** What `read` gives; null, and told, where it meets a problem. */
  const attempt = <Value>(read: () => Value): Value | null => {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      report(error.node?.range?.[0] ?? 0, error.message);
      return null;
    }
  };
  visit(document, {
    Alias: (_, { range }) => report(range?.[0] ?? 0, "aliases are not taken"),
  });
  if (problems.length === 0) {
    for (const [name, list] of attempt(() => fieldsOf(document.contents, "the script")) ?? []) {
      const items = attempt(() => itemsOf(list, `the scenario ${name}`, RULES_MAX)) ?? [];
      const rules = items.flatMap((item) => attempt(() => readRule(item)) ?? []);
      scenarios.set(name, { name, rules });
    }
  }
  if (problems.length > 0) throw new SettingsError(problems.slice(0, PROBLEMS_MAX).join("\n"));
  if (scenarios.size === 0) throw new SettingsError(`${path} has no scenarios`);
  return scenarios;
}

function readRule(node: Node | null): Rule {
  const fields = fieldsOf(node, "a rule", ruleFields);
  const text = readTemplate(fields.get("text"), "text");
  const calls = fields.has("calls") ? itemsOf(fields.get("calls") ?? null, "calls", CALLS_MAX).map(readCall) : [];
  const reason = fields.has("finish_reason") ? textOf(fields.get("finish_reason"), "finish_reason") : null;
  const finishReason = finishReasons.find((one) => one === reason) ?? null;
  if (reason !== null && finishReason === null) {
    throw new Problem(fields.get("finish_reason") ?? null, `finish_reason must be one of ${finishReasons.join(", ")}`);
  }
  return {
    when: readMoment(fields.get("when")),
    reasoning: readTemplate(fields.get("reasoning"), "reasoning"),
    text,
    calls,
    finishReason,
    fault: readFault(fields.get("fault")),
  };
}

function readMoment(node: Node | null | undefined): Moment {
  if (node === undefined) return {};
  const fields = fieldsOf(node, "when", momentFields);
  const of = <Value>(name: string, read: (value: Node | null, name: string) => Value) =>
    fields.has(name) && { [name]: read(fields.get(name) ?? null, name) };
  return {
    ...of("user", readMatch),
    ...of("system", readMatch),
    ...of("result", readMatch),
    ...of("tool", textOf),
    ...of("turn", readCount),
    ...of("step", readCount),
  };
}

/** `/…/i` is a regular expression, anything else a text that is in it, whatever the case. */
function readMatch(node: Node | null, name: string): TextMatch {
  const text = textOf(node, name);
  const [, pattern, flags] = /^\/(.+)\/([imsu]*)$/s.exec(text) ?? [];
  if (pattern === undefined) {
    const part = text.toLowerCase();
    return (whole) => whole.toLowerCase().includes(part);
  }
  try {
    const expression = new RegExp(pattern, flags);
    return (whole) => expression.test(whole);
  } catch (error) {
    throw new Problem(node, `${name} is no regular expression: ${error instanceof Error ? error.message : ""}`);
  }
}

function readCount(node: Node | null, name: string): number {
  const value = isScalar(node) ? node.value : null;
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 1) return value;
  throw new Problem(node, `${name} must be a whole number from 1`);
}

function readCall(node: Node | null): ScriptedCall {
  const fields = fieldsOf(node, "a call", ["name", "arguments"]);
  const name = textOf(fields.get("name") ?? node, "name of a call");
  const given = fields.get("arguments") ?? null;
  if (given === null) return { name, arguments: "{}" };
  if (isScalar(given) && typeof given.value === "string") return { name, arguments: given.value };
  if (!isMap(given)) throw new Problem(given, "arguments must be an object, or a text to send as it is");
  return { name, arguments: JSON.stringify(given.toJSON()) };
}

function readTemplate(node: Node | null | undefined, name: string): Template | null {
  if (node === undefined) return null;
  try {
    return parseTemplate(textOf(node, name));
  } catch (error) {
    if (error instanceof TemplateError) throw new Problem(node, `${name} ${error.message}`);
    throw error;
  }
}

function readFault(node: Node | null | undefined): FaultSpec | null {
  if (node === undefined) return null;
  try {
    return parseFault(textOf(node, "fault"));
  } catch (error) {
    if (error instanceof FaultError) throw new Problem(node, error.message);
    throw error;
  }
}

function textOf(node: Node | null | undefined, name: string): string {
  if (isScalar(node) && typeof node.value === "string" && node.value !== "") return node.value;
  throw new Problem(node ?? null, `${name} must be a text`);
}

function itemsOf(node: Node | null, what: string, max: number): (Node | null)[] {
  if (!isSeq(node)) throw new Problem(node, `${what} must be a list`);
  if (node.items.length > max) throw new Problem(node, `${what} may have at most ${max} items`);
  return node.items.map((item) => plain(item));
}

/** The values of a map by name; with `known` no other names. */
function fieldsOf(node: Node | null, what: string, known?: readonly string[]): Map<string, Node | null> {
  if (!isMap(node)) throw new Problem(node, `${what} must be a map`);
  const fields = new Map<string, Node | null>();
  for (const { key, value } of node.items) {
    const name = isScalar(key) ? String(key.value) : "";
    if (known && !known.includes(name)) {
      throw new Problem(isScalar(key) ? key : node, `${what} has no field ${name}: one of ${known.join(", ")}`);
    }
    fields.set(name, plain(value));
  }
  return fields;
}

const plain = (node: unknown): Node | null => (isMap(node) || isSeq(node) || isScalar(node) ? node : null);
