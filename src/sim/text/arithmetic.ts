// Simple arithmetic in a question: "What is 12 * 7?", "17 % of 300", "12 plus 30". Called by reply.ts; it is a parser
// of its own, nothing is ever evaluated as code.

const EXPRESSION_CHARS_MAX = 200;
const DEPTH_MAX = 30;

const spoken: readonly (readonly [RegExp, string])[] = [
  [/(\d)\s*(?:%|percent|prozent)\s*(?:of|von)\s*(?=\d)/gi, "$1 / 100 * "],
  [/(\d)\s*(?:plus|und|加上?|더하기)\s*(?=[\d(])/gi, "$1 + "],
  [/(\d)\s*(?:minus|weniger|减去?|빼기)\s*(?=[\d(])/gi, "$1 - "],
  [/(\d)\s*(?:times|multiplied by|mal|乘以?|곱하기|×|x|·)\s*(?=[\d(])/gi, "$1 * "],
  [/(\d)\s*(?:divided by|over|geteilt durch|除以|나누기|÷)\s*(?=[\d(])/gi, "$1 / "],
];

/** "12-5" alone is a sum, within a sentence it may be a phone number. */
const alone = /^\s*\d+[-/]\d+\s*[=?]*\s*$/;

/** The expression and its value, or null where the text holds none. */
export function arithmeticIn(text: string): { expression: string; value: number } | null {
  let plain = text.slice(0, 2000).replace(/(\d),(?=\d{3}\b)/g, "$1");
  for (const [words, sign] of spoken) plain = plain.replace(words, sign);
  for (const [run] of plain.matchAll(/[-(\d][\d\s.+\-*/^()]*[\d)]/g)) {
    const expression = run.trim().replace(/\s+/g, " ");
    // Dates, phone numbers and ranges have digits and dashes too: within a sentence a dash needs room.
    const operates = /[\d)]\s*[+*^]\s*[-\d(]|[\d)] [-/] [-\d(]|\)[-/]|[-/]\(/.test(expression) || alone.test(plain);
    if (!operates || expression.length > EXPRESSION_CHARS_MAX) continue;
    const value = evaluate(expression);
    if (value !== null) return { expression, value: Number(value.toPrecision(12)) };
  }
  return null;
}

/** Recursive descent: sums of products of powers. Null for what is malformed or has no finite value. */
function evaluate(expression: string): number | null {
  const tokens = expression.match(/\d+(?:\.\d+)?|[-+*/^()]/g) ?? [];
  let [at, depth] = [0, 0];
  const take = (token: string): boolean => tokens[at] === token && ++at > 0;
  const atom = (): number => {
    if (++depth > DEPTH_MAX) return Number.NaN;
    const sign = take("-") ? -1 : 1;
    let value = Number.NaN;
    if (take("(")) {
      value = sum();
      if (!take(")")) value = Number.NaN;
    } else if (/^\d/.test(tokens[at] ?? "")) {
      value = Number(tokens[at++]);
    }
    depth--;
    return sign * value;
  };
  const power = (): number => {
    const base = atom();
    return take("^") ? base ** power() : base;
  };
  const product = (): number => {
    let value = power();
    for (;;) {
      if (take("*")) value *= power();
      else if (take("/")) value /= power();
      else return value;
    }
  };
  const sum = (): number => {
    let value = product();
    for (;;) {
      if (take("+")) value += product();
      else if (take("-")) value -= product();
      else return value;
    }
  };
  const value = sum();
  return at === tokens.length && Number.isFinite(value) ? value : null;
}
