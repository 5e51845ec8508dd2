// Data within a text, JSON or a Markdown table, as lines that can be read and ranked like sentences. Called before a text
// is cut into sentences, and for what tools answer; text around the data stays as it is.

/** More is left as it is. */
const LINES_MAX = 2000;

const DEPTH_MAX = 20;

/** `patient: name Eva, city Graz` and so on: a line for each value, plain lists and small plain records on one. */
export function flat(data: unknown, path: readonly string[] = []): string[] {
  const label = path.join(" ").replaceAll("_", " ");
  const line = (text: string): string => (label === "" ? text : `${label}: ${text}`);
  if (typeof data !== "object" || data === null) return [line(String(data))];
  if (path.length > DEPTH_MAX) return [line("…")];
  if (!Array.isArray(data) && label !== "" && isSmall(data)) {
    const fields = Object.entries(data).map(([key, value]) => `${key.replaceAll("_", " ")} ${value}`);
    return fields.length === 0 ? [] : [line(fields.join(", "))];
  }
  if (!Array.isArray(data)) return Object.entries(data).flatMap(([key, value]) => flat(value, [...path, key]));
  if (data.length === 0) return [];
  if (data.every((item) => typeof item !== "object")) return [line(data.join(", "))];
  return data.flatMap((item, at) => flat(item, data.length > 1 ? [...path, `${at + 1}`] : path));
}

const FIELDS_MAX = 6;
const isSmall = (record: object): boolean => {
  const values: readonly unknown[] = Object.values(record);
  return values.length <= FIELDS_MAX && values.every((value) => typeof value !== "object" && `${value}`.length < 60);
};

/** The text with its JSON and its tables in lines. */
export function withDataInLines(text: string): string {
  const plain = text.includes("|") ? tablesInLines(text) : text;
  return withJson(plain, (data) => `\n${flat(data).slice(0, LINES_MAX).join("\n")}\n`);
}

/** The text with its tables in lines and its JSON on a single one, so that a cut into lines leaves it whole. */
export function withDataWhole(text: string): string {
  const plain = text.includes("|") ? tablesInLines(text) : text;
  return withJson(plain, (data, written) => (written.includes("\n") ? `\n${JSON.stringify(data)}\n` : written));
}

/** From the first bracket to the last one: what stands between two pieces of JSON is not told from them. */
function withJson(text: string, put: (data: unknown, written: string) => string): string {
  const from = text.search(/\{\s*"|\[\s*[{"]/);
  const to = Math.max(text.lastIndexOf("}"), text.lastIndexOf("]")) + 1;
  if (from < 0 || to <= from) return text;
  const written = text.slice(from, to);
  let data: unknown;
  try {
    data = JSON.parse(written);
  } catch {
    return text; // braces of something else
  }
  return `${text.slice(0, from)}${put(data, written)}${text.slice(to)}`;
}

const ruleRow = /^\s*\|?\s*:?-{3,}:?\s*(?:\|\s*:?-{3,}:?\s*)*\|?\s*$/;

/** "| Hb | 13.2 | g/dl |" below "| test | value | unit |" → "Hb: value 13.2, unit g/dl". */
function tablesInLines(text: string): string {
  const lines = text.split("\n");
  const told: string[] = [];
  let columns: readonly string[] | null = null;
  for (const [at, line] of lines.entries()) {
    if (!line.includes("|")) columns = null;
    else if (ruleRow.test(lines[at + 1] ?? "")) {
      columns = cellsOf(line);
      continue;
    } else if (ruleRow.test(line)) continue;
    told.push(columns === null ? line : rowTold(cellsOf(line), columns));
  }
  return told.join("\n");
}

const cellsOf = (row: string): string[] =>
  row
    .trim()
    .replace(/^\||\|$/g, "")
    .split("|")
    .map((cell) => cell.trim());

function rowTold([name = "", ...values]: readonly string[], [, ...columns]: readonly string[]): string {
  const told = values.flatMap((value, at) => (value === "" ? [] : [`${columns[at] ?? ""} ${value}`.trim()]));
  return told.length === 0 ? name : `${name}: ${told.join(", ")}`;
}
