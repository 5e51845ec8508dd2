// What a request says about the form of its answer, in the words of the server that is to give it. Old vLLM names
// (`guided_json` and its like) become `structured_outputs`, since newer servers ignore them without a word; another
// server gets `response_format` where that says the same. encode.ts calls it; nothing is ever dropped.
import { invalidField } from "../errors.ts";

type Fields = Record<string, unknown>;

/** Names that vLLM took before 0.12, and what they are called in `structured_outputs`. */
const guidedNames: Readonly<Record<string, string>> = {
  guided_json: "json",
  guided_regex: "regex",
  guided_choice: "choice",
  guided_grammar: "grammar",
  guided_whitespace_pattern: "whitespace_pattern",
};

/** One of these says what the answer must be; vLLM takes no two of them. */
const constraintNames = ["json", "regex", "choice", "grammar", "json_object", "structural_tag"] as const;

/**
 * The body with its constraint in `structured_outputs` alone, where it has one beside `response_format`. Throws
 * `invalid_request` for a `guided_*` field that has no successor, for two constraints, and for none where one is begun.
 */
export function withStructuredOutputs(body: Fields): Fields {
  const guided = Object.keys(body).filter((name) => name.startsWith("guided_"));
  const given = body.structured_outputs ?? null;
  if (guided.length === 0 && given === null) return body;
  if (given !== null && (typeof given !== "object" || Array.isArray(given))) {
    throw invalidField("/structured_outputs", "must be an object");
  }
  const outputs: Fields = { ...given };
  const rest: Fields = { ...body };
  delete rest.structured_outputs;
  for (const name of guided) {
    delete rest[name];
    if (body[name] === null || body[name] === undefined) continue;
    const successor = Object.hasOwn(guidedNames, name) ? guidedNames[name] : undefined;
    if (successor === undefined) {
      throw invalidField(`/${name.slice(0, 64)}`, "is no longer known: use structured_outputs");
    }
    if (given !== null) throw invalidField(`/${name}`, "cannot stand beside structured_outputs");
    outputs[successor] = body[name];
  }
  if (Object.keys(outputs).length === 0) return rest;
  checkOutputs(outputs, rest);
  return { ...rest, structured_outputs: outputs };
}

function checkOutputs(outputs: Fields, rest: Fields): void {
  const named = constraintNames.filter((name) => (outputs[name] ?? false) !== false);
  if (named.length !== 1) {
    throw invalidField("/structured_outputs", `must have exactly one of ${constraintNames.join(", ")}`);
  }
  const format = rest.response_format as { readonly type?: unknown } | null | undefined;
  if (format && format.type !== "text") {
    throw invalidField("/response_format", "cannot stand beside structured_outputs or guided_*");
  }
}

/**
 * The same body for a server that knows `response_format` alone. Throws `invalid_request` for a constraint that this
 * cannot say: a regular expression, a choice, a grammar.
 */
export function withResponseFormat(body: Fields): Fields {
  const { structured_outputs: outputs, ...rest } = withStructuredOutputs(body) as Fields & {
    structured_outputs?: Fields;
  };
  if (outputs === undefined) return rest;
  const other = Object.keys(outputs).find((name) => name !== "json" && name !== "json_object");
  if (other !== undefined) {
    throw invalidField("/structured_outputs", `${other.slice(0, 64)} is not known to the server of this model`);
  }
  if (outputs.json_object === true) return { ...rest, response_format: { type: "json_object" } };
  const schema = typeof outputs.json === "string" ? parsed(outputs.json) : outputs.json;
  // Without `strict` such a server takes the schema for advice.
  return { ...rest, response_format: { type: "json_schema", json_schema: { name: "answer", schema, strict: true } } };
}

/** vLLM takes a schema as text too. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw invalidField("/structured_outputs", "json must be a JSON Schema");
  }
}
