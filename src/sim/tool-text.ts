// Tool calls as models write them before a server has parsed them, for whoever tests a parser of their own: the formats
// of vLLM's parsers hermes, llama3_json, mistral and pythonic. Called instead of parsed calls where a request or the
// settings want it. Pure.
import type { ToolCall } from "./tools.ts";

export const toolTextFormats = ["hermes", "llama3_json", "mistral", "pythonic"] as const;
export type ToolTextFormat = (typeof toolTextFormats)[number];

/** The text of the calls. Malformed arguments stand in it as they are. */
export function toolText(calls: readonly ToolCall[], format: ToolTextFormat): string {
  switch (format) {
    case "hermes":
      return calls.map((call) => `<tool_call>\n${asJson(call, "arguments")}\n</tool_call>`).join("\n");
    case "llama3_json":
      return calls.map((call) => asJson(call, "parameters")).join("; ");
    case "mistral":
      return `[TOOL_CALLS][${calls.map((call) => asJson(call, "arguments")).join(", ")}]`;
    case "pythonic":
      return `[${calls.map(asPython).join(", ")}]`;
  }
}

const asJson = ({ name, arguments: given }: ToolCall, key: string): string =>
  `{"name": ${JSON.stringify(name)}, "${key}": ${spaced(given)}}`;

/** With the spaces of Python's json.dumps, as models have learnt it. */
function spaced(text: string): string {
  const value = parsed(text);
  if (value === undefined) return text;
  // Raw line breaks stand between values alone: in texts they are escaped.
  return JSON.stringify(value, null, 1)
    .replace(/([[{])\n\s*/g, "$1")
    .replace(/\n\s*([\]}])/g, "$1")
    .replace(/,\n\s*/g, ", ");
}

function asPython({ name, arguments: given }: ToolCall): string {
  const value = parsed(given);
  if (typeof value !== "object" || value === null || Array.isArray(value)) return `${name}(${given})`;
  return `${name}(${Object.entries(value)
    .map(([key, one]) => `${key}=${literal(one)}`)
    .join(", ")})`;
}

function literal(value: unknown): string {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "string") return quoted(value);
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value)
      .map(([key, one]) => `${quoted(key)}: ${literal(one)}`)
      .join(", ")}}`;
  }
  return String(value);
}

/** As Python's repr: single quotes, unless the text has those and no double ones. */
function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = text
    .replaceAll("\\", "\\\\")
    .replaceAll(quote, `\\${quote}`)
    .replace(/[\n\r\t]/g, (sign) => ({ "\n": "\\n", "\r": "\\r", "\t": "\\t" })[sign] ?? sign)
    .replace(/\p{Cc}/gu, (sign) => `\\x${sign.charCodeAt(0).toString(16).padStart(2, "0")}`);
  return quote + escaped + quote;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
