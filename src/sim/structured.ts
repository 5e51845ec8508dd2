// Structured outputs: `response_format`, vLLM's `structured_outputs`, and JSON that the prompt asks for in prose. What it
// returns always conforms; what it cannot obey it refuses as a ContentError. Called by answer.ts.
import { type ChatRequest, ContentError, isRecord } from "./chat-request.ts";
import { drawOne, type Rng } from "./rng.ts";
import { conforms } from "./schema/check.ts";
import { generateValue } from "./schema/generate.ts";
import { patternOfGrammar } from "./schema/grammar.ts";
import { PatternError, parsePattern } from "./schema/pattern.ts";
import { isSchema, type Schema, SchemaError, SchemaRoot } from "./schema/schema.ts";
import type { SuggestionSource } from "./suggestion-source.ts";
import { membersIn, suggestFrom } from "./suggestions.ts";
import type { Conversation } from "./text/statements.ts";

const CHOICES_MAX = 10_000;
const KEYS_MAX = 40;

/** The constraint of a request, or null for plain text. Throws ContentError for one that is malformed or not supported. */
export type Constraint =
  | { readonly kind: "json"; readonly schema: Schema; readonly param: string }
  | { readonly kind: "regex"; readonly pattern: string; readonly param: string }
  | { readonly kind: "choice"; readonly choices: readonly string[] }
  | { readonly kind: "json_object" };

export function readConstraint({
  structured_outputs: outputs,
  response_format: format,
}: ChatRequest): Constraint | null {
  if (outputs != null) return fromStructuredOutputs(outputs);
  if (format == null) return null;
  if (!isRecord(format) || typeof format.type !== "string")
    throw new ContentError("response_format must have a type", "response_format");
  switch (format.type) {
    case "text":
      return null;
    case "json_object":
      return { kind: "json_object" };
    case "json_schema": {
      const schema = isRecord(format.json_schema) ? format.json_schema.schema : undefined;
      if (!isSchema(schema)) throw new ContentError("json_schema must have a schema", "response_format.json_schema");
      return { kind: "json", schema, param: "response_format.json_schema.schema" };
    }
    default:
      throw new ContentError(`the simulator does not support response_format ${format.type}`, "response_format.type");
  }
}

function fromStructuredOutputs(outputs: unknown): Constraint | null {
  if (!isRecord(outputs)) throw new ContentError("structured_outputs must be an object", "structured_outputs");
  const { json, regex, choice, json_object, grammar, structural_tag } = outputs;
  const given =
    [json, regex, choice, grammar, structural_tag].filter((one) => one != null).length + Number(json_object === true);
  if (given > 1) throw new ContentError("structured_outputs takes one kind of constraint", "structured_outputs");
  if (json != null) return { kind: "json", schema: schemaOf(json), param: "structured_outputs.json" };
  if (json_object === true) return { kind: "json_object" };
  if (regex != null) {
    if (typeof regex !== "string") throw new ContentError("regex must be a string", "structured_outputs.regex");
    return { kind: "regex", pattern: regex, param: "structured_outputs.regex" };
  }
  if (choice != null) {
    const choices = Array.isArray(choice) ? choice.filter((one) => typeof one === "string") : [];
    if (
      !Array.isArray(choice) ||
      choices.length !== choice.length ||
      choices.length < 1 ||
      choices.length > CHOICES_MAX
    ) {
      throw new ContentError(`choice must be 1 to ${CHOICES_MAX} strings`, "structured_outputs.choice");
    }
    return { kind: "choice", choices };
  }
  if (grammar != null) return fromGrammar(grammar);
  if (structural_tag == null) return null;
  throw new ContentError("the simulator does not support structural_tag", "structured_outputs.structural_tag");
}

function fromGrammar(grammar: unknown): Constraint {
  const param = "structured_outputs.grammar";
  if (typeof grammar !== "string") throw new ContentError("grammar must be a string", param);
  try {
    return { kind: "regex", pattern: patternOfGrammar(grammar), param };
  } catch (error) {
    if (!(error instanceof PatternError)) throw error;
    throw new ContentError(`the simulator cannot obey the grammar: ${error.message}`, param);
  }
}

/** vLLM takes the schema as an object or as its text. */
function schemaOf(json: unknown): Schema {
  let schema = json;
  if (typeof json === "string") {
    try {
      schema = JSON.parse(json);
    } catch {
      throw new ContentError("json is no JSON", "structured_outputs.json");
    }
  }
  if (!isSchema(schema)) throw new ContentError("json must be a JSON Schema", "structured_outputs.json");
  return schema;
}

/** The text that obeys a constraint. */
export function obey(constraint: Constraint, source: SuggestionSource, conversation: Conversation, rng: Rng): string {
  switch (constraint.kind) {
    case "json":
      return JSON.stringify(conforming(constraint.schema, source, rng, constraint.param));
    case "json_object":
      return JSON.stringify(
        conforming(
          schemaInProse([conversation.question, conversation.given, conversation.prompt]) ?? {
            type: "object",
            properties: { answer: { type: "string" } },
          },
          source,
          rng,
          "response_format",
        ),
      );
    case "choice": {
      const named = membersIn(
        constraint.choices,
        conversation.given === "" ? conversation.question : conversation.given,
        0,
      )[0];
      return typeof named === "string" ? named : drawOne(rng, constraint.choices);
    }
    case "regex":
      return matching(constraint, rng);
  }
}

/** Whether a text that comes from elsewhere obeys a constraint as it stands. */
export function obeys(constraint: Constraint, text: string): boolean {
  try {
    switch (constraint.kind) {
      case "json":
        return conforms(new SchemaRoot(constraint.schema), constraint.schema, JSON.parse(text));
      case "json_object":
        return isRecord(JSON.parse(text));
      case "choice":
        return constraint.choices.includes(text);
      case "regex":
        return parsePattern(constraint.pattern).matches(text, true);
    }
  } catch {
    return false; // what cannot be read does not obey; a constraint that cannot be obeyed is told by obey()
  }
}

function matching({ pattern, param }: Constraint & { readonly kind: "regex" }, rng: Rng): string {
  try {
    const parsed = parsePattern(pattern);
    for (let tries = 0; tries < 50; tries++) {
      const text = parsed.draw(rng, { min: 0, max: Infinity });
      if (parsed.matches(text, true)) return text;
    }
  } catch (error) {
    if (error instanceof PatternError)
      throw new ContentError(`the simulator cannot obey the regex: ${error.message}`, param);
    throw error;
  }
  throw new ContentError("the simulator finds nothing that matches the regex", param);
}

/** A value for the schema from the conversation; SchemaError and PatternError become a ContentError that blames `param`. */
export function conforming(schema: Schema, source: SuggestionSource, rng: Rng, param: string): unknown {
  try {
    return generateValue(schema, { rng, suggest: suggestFrom(source), sparse: source.sparse });
  } catch (error) {
    if (!(error instanceof SchemaError || error instanceof PatternError)) throw error;
    throw new ContentError(`the simulator cannot obey the schema: ${error.message}`, param);
  }
}

/** The shape of JSON that a prompt asks for in words: an example object, or a list of keys. Null where it asks for none. */
export function schemaInProse(texts: readonly string[]): Schema | null {
  for (const text of texts) {
    if (givesData.test(text)) continue;
    const asks = /\bjson\b/i.test(text);
    const example = asks || asksForForm.test(text) ? exampleIn(text) : null;
    if (example !== null) return shapeOf(example);
    if (!asks) continue;
    const keys = keysIn(text);
    if (keys.length > 0)
      return { type: "object", properties: Object.fromEntries(keys.map((key) => [key, guessed(key)])), required: keys };
  }
  return null;
}

/** "Answer from this JSON: {…" brings its braces along to be read, and not to be filled. */
const givesData =
  /\b(?:from|following|based on|using|given|here is|aus|anhand|mit diesen)\b[^{}\n]{0,60}\b(?:data|json|records?|daten|context|object)\b[^{}\n]{0,20}[:\n]\s*[{[]/i;
const asksForForm = /\b(?:reply|answer|respond|return|output|antworte|gib)\b[^{}\n]{0,80}\{\s*"/i;
const keyList =
  /\b(?:keys?|fields?|properties|attributes|schlüsseln?|feldern?)\b[ \t]*(?:named|called|are|:)?[ \t]*((?:["'`“]?[\p{L}_][\p{L}\p{N}_]{0,40}["'`”]?(?: ?\([^)\n]{0,80}\))?(?:,? (?:and|und) |, ?|; ?)){0,40}["'`“]?[\p{L}_][\p{L}\p{N}_]{0,40})/iu;

function keysIn(text: string): string[] {
  const found = (
    keyList.exec(text)?.[1] ??
    /(?:键|字段)[:\uff1a为是]?\s*([\w、,\uff0c 和"]+)/.exec(text)?.[1] ??
    ""
  ).replace(/\([^)]*\)/g, " ");
  const keys = found.split(/\s*(?:,|、|,|;|\band\b|\bund\b|和)\s*/).map((key) => key.replace(/[\s"'`“”.:]/g, ""));
  return [...new Set(keys)].filter((key) => /^[\p{L}_][\p{L}\p{N}_]{0,40}$/u.test(key)).slice(0, KEYS_MAX);
}

/** The first object in the text that looks like a form to fill: values such as "…", "<name>" or "string". */
function exampleIn(text: string): Record<string, unknown> | null {
  for (const [found] of text.matchAll(/\{[^{}]{3,2000}(?:\{[^{}]{0,500}\}[^{}]{0,500}){0,8}\}/g)) {
    const quoted = found
      .replace(/([{,]\s*)([A-Za-z_]\w*)\s*:/g, '$1"$2":')
      .replace(
        /:\s*(?:\.\.\.|…|<[^>"]*>|string|str|number|int(?:eger)?|float|bool(?:ean)?)\s*([,}])/gi,
        (all, end: string) => `: ${placeholder(all)}${end}`,
      );
    try {
      const value: unknown = JSON.parse(quoted);
      if (isRecord(value) && Object.keys(value).length > 0) return { ...value };
    } catch {
      // Braces of something else.
    }
  }
  return null;
}

const placeholder = (text: string): string =>
  /number|int|float/i.test(text) ? "0" : /bool/i.test(text) ? "false" : '"…"';

function shapeOf(example: unknown): Schema {
  if (Array.isArray(example))
    return { type: "array", items: example.length > 0 ? shapeOf(example[0]) : { type: "string" } };
  if (isRecord(example)) {
    const properties = Object.entries(example).map(([key, value]): [string, Schema] => [key, shapeOf(value)]);
    return { type: "object", properties: Object.fromEntries(properties), required: Object.keys(example) };
  }
  if (typeof example === "string" && /^[\w -]+(?:\s*\|\s*[\w -]+)+$/.test(example))
    return { enum: example.split("|").map((one) => one.trim()) };
  return { type: example === null ? "string" : typeof example };
}

/** A key's name often tells its type. */
function guessed(key: string): Schema {
  if (/^(?:age|count|year|quantity|number_of\w*|num_\w+|anzahl|alter)$/i.test(key))
    return { type: "integer", minimum: 0 };
  if (/^(?:price|amount|total|score|confidence|temperature|preis|betrag)$/i.test(key))
    return { type: "number", minimum: 0 };
  if (/^(?:is|has|should)_?[A-Z_]/.test(key)) return { type: "boolean" };
  if (/(?:tags|keywords|items|symptoms|topics|names|list|cities|stichworte)$/i.test(key))
    return { type: "array", items: { type: "string" }, minItems: 1 };
  return { type: "string" };
}
