// Grammars of a request (GBNF, as vLLM's default backend reads them) as regular expressions: possible where no rule comes
// back to itself, so that every rule can stand where it is named. Called by structured.ts; pattern.ts does the rest.
import { PatternError } from "./pattern.ts";

/** As long as a pattern may be; rules that name each other twice would double at every step. */
const PATTERN_CHARS_MAX = 4_000;
const GRAMMAR_CHARS_MAX = 20_000;

// A comment, a literal, a class, an operator, a count, the sign of a definition, a name.
const tokenPattern =
  /\s+|#[^\n]*|("(?:[^"\\\n]|\\.)*"|\[(?:[^\]\\\n]|\\.)*\]|\{\d*,?\d*\}|::=|[()|*+?]|[A-Za-z_][\w-]*)|(.)/gsu;

/** A pattern that matches, as a whole, what `root` does. Throws PatternError, also for what is no GBNF. */
export function patternOfGrammar(grammar: string): string {
  if (grammar.length > GRAMMAR_CHARS_MAX) throw new PatternError(`longer than ${GRAMMAR_CHARS_MAX} characters`);
  const rules = rulesOf(grammar);
  const done = new Map<string, string>();
  const open = new Set<string>();
  const patternOf = (name: string): string => {
    const known = done.get(name);
    if (known !== undefined) return known;
    const body = rules.get(name);
    if (body === undefined) throw new PatternError(`no rule is named ${name}`);
    if (open.has(name)) throw new PatternError(`the rule ${name} comes back to itself`);
    open.add(name);
    let pattern = "";
    for (const token of body) {
      pattern += /^[A-Za-z_]/.test(token) ? `(?:${patternOf(token)})` : patternOfToken(token);
      if (pattern.length > PATTERN_CHARS_MAX) throw new PatternError("written out it is too long");
    }
    open.delete(name);
    done.set(name, pattern);
    return pattern;
  };
  return patternOf("root");
}

/** The tokens of each rule by its name. */
function rulesOf(grammar: string): ReadonlyMap<string, readonly string[]> {
  const tokens: string[] = [];
  for (const [, token, other] of grammar.matchAll(tokenPattern)) {
    if (other !== undefined) throw new PatternError(`${JSON.stringify(other)} is no GBNF`);
    if (token !== undefined) tokens.push(token);
  }
  const rules = new Map<string, string[]>();
  let body: string[] | null = null;
  for (const [at, token] of tokens.entries()) {
    if (tokens[at + 1] === "::=") {
      body = [];
      rules.set(token, body);
    } else if (token !== "::=") {
      if (body === null) throw new PatternError("it begins with no rule");
      body.push(token);
    }
  }
  return rules;
}

/** Literals as a group, so that what follows repeats all of them. */
function patternOfToken(token: string): string {
  if (!token.startsWith('"')) return token === "(" ? "(?:" : token;
  const text = token.slice(1, -1).replace(/\\(?:x([\da-fA-F]{2})|u([\da-fA-F]{4})|(.))/gsu, unescaped);
  return `(?:${text.replace(/[\\^$.|?*+()[\]{}/]/g, "\\$&")})`;
}

function unescaped(_all: string, byte: string | undefined, unit: string | undefined, sign = ""): string {
  const code = byte ?? unit;
  if (code !== undefined) return String.fromCharCode(Number.parseInt(code, 16));
  return { n: "\n", r: "\r", t: "\t" }[sign] ?? sign;
}
