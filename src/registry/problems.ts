// Says in plain words what a value lacks: ajv's errors as the problems a client is shown. Called by schema.ts when a
// value has failed. A message names what the schema wants, never the value that was sent.
import type { ErrorObject } from "ajv";
import type { FieldProblem } from "../errors.ts";
import { FILE_KEYWORD } from "./file.ts";

/** More than a person corrects in one go. */
const PROBLEMS_MAX = 20;
/** Paths hold field names that the client made up; an answer does not repeat more of one than this. */
export const PATH_CHARS_MAX = 256;
const LIST_CHARS_MAX = 200;

/** The problems behind ajv's errors: each path and message once, at most 20. Needs `verbose` errors. */
export function problemsOf(errors: readonly ErrorObject[]): readonly FieldProblem[] {
  const seen = new Map<string, FieldProblem>();
  for (const error of withoutBranches(errors)) {
    const path = pathOf(error).slice(0, PATH_CHARS_MAX);
    const message = textOf(error);
    seen.set(`${path}\0${message}`, { path, message });
    if (seen.size === PROBLEMS_MAX) break;
  }
  return [...seen.values()];
}

export const escapePointer = (name: string): string => name.replaceAll("~", "~0").replaceAll("/", "~1");

/**
 * A failed choice comes as the errors of every branch and one of its own. Where exactly one branch has the shape of the
 * value (wrong only further down), its errors say what to correct; else the choice's own error does.
 */
function withoutBranches(errors: readonly ErrorObject[]): readonly ErrorObject[] {
  let kept = errors;
  for (const choice of errors) {
    if (choice.keyword !== "anyOf" && choice.keyword !== "oneOf") continue;
    const prefix = `${choice.schemaPath}/`;
    const branches = new Map<string, ErrorObject[]>();
    for (const error of errors) {
      if (!error.schemaPath.startsWith(prefix)) continue;
      const branch = error.schemaPath.slice(prefix.length).split("/", 1)[0] ?? "";
      branches.set(branch, [...(branches.get(branch) ?? []), error]);
    }
    const fitting = [...branches.values()].filter((branch) =>
      branch.every((error) => error.keyword !== "const" && error.instancePath.length > choice.instancePath.length),
    );
    const dropped = new Set<ErrorObject>([...branches.values()].flat());
    const [only, ...others] = fitting;
    if (only && others.length === 0) {
      for (const error of only) dropped.delete(error);
      dropped.add(choice);
    }
    kept = kept.filter((error) => !dropped.has(error));
  }
  return kept;
}

function pathOf(error: ErrorObject): string {
  const { missingProperty, additionalProperty, unevaluatedProperty } = error.params;
  const name: unknown = missingProperty ?? additionalProperty ?? unevaluatedProperty;
  return typeof name === "string" ? `${error.instancePath}/${escapePointer(name)}` : error.instancePath;
}

const plural = (count: unknown, one: string): string => `${count} ${one}${count === 1 ? "" : "s"}`;

const messages: Readonly<Record<string, (error: ErrorObject) => string>> = {
  required: () => "is required",
  additionalProperties: () => "is not a known field",
  unevaluatedProperties: () => "is not a known field",
  type: (error) => `must be ${[error.params.type].flat().map(typeName).join(" or ")}`,
  enum: (error) => `must be one of ${listOf(error.params.allowedValues)}`,
  const: (error) => `must be ${listOf([error.params.allowedValue])}`,
  minLength: (error) => `must have at least ${plural(error.params.limit, "character")}`,
  maxLength: (error) => `must have at most ${plural(error.params.limit, "character")}`,
  minItems: (error) => `must have at least ${plural(error.params.limit, "item")}`,
  maxItems: (error) => `must have at most ${plural(error.params.limit, "item")}`,
  minProperties: (error) => `must have at least ${plural(error.params.limit, "field")}`,
  maxProperties: (error) => `must have at most ${plural(error.params.limit, "field")}`,
  minimum: (error) => `must be at least ${error.params.limit}`,
  maximum: (error) => `must be at most ${error.params.limit}`,
  exclusiveMinimum: (error) => `must be more than ${error.params.limit}`,
  exclusiveMaximum: (error) => `must be less than ${error.params.limit}`,
  multipleOf: (error) => `must be a multiple of ${error.params.multipleOf}`,
  uniqueItems: () => "must not have an item twice",
  format: (error) => formatMessages[String(error.params.format)] ?? `must be in the format ${error.params.format}`,
  anyOf: (error) => choiceMessage(error.parentSchema?.anyOf),
  oneOf: (error) => (error.params.passingSchemas ? "must match only one of its forms" : choiceMessage(error.schema)),
  [FILE_KEYWORD]: (error) => `must be a file of type ${error.schema}, made with ctx.file(bytes, contentType)`,
};

const formatMessages: Readonly<Record<string, string>> = {
  "public-url": "must be an http or https URL with a public host",
  "date-time": "must be a time such as 2026-11-21T10:00:00Z",
};

const textOf = (error: ErrorObject): string =>
  messages[error.keyword]?.(error) ?? error.message?.replace("NOT", "not") ?? "is not valid";

const typeName = (type: unknown): string => {
  if (type === "null") return "null";
  return type === "integer" ? "a whole number" : `${/^[aeiou]/.test(String(type)) ? "an" : "a"} ${type}`;
};

function listOf(values: unknown): string {
  const text = (Array.isArray(values) ? values : []).map((value) => JSON.stringify(value)).join(", ");
  return text.length > LIST_CHARS_MAX ? `${text.slice(0, LIST_CHARS_MAX)}…` : text;
}

/** What a choice offers: its constants, its types, or the fields that each form needs. */
function choiceMessage(branches: unknown): string {
  const forms = (Array.isArray(branches) ? branches : []).map((branch) => {
    if (typeof branch !== "object" || branch === null) return "any value";
    if ("const" in branch) return JSON.stringify(branch.const);
    if (Array.isArray(branch.required) && branch.required.length > 0)
      return `an object with ${branch.required.join(", ")}`;
    return "type" in branch ? [branch.type].flat().map(typeName).join(" or ") : "another form";
  });
  const text = [...new Set(forms)].join(", or ");
  return `must be ${text.length > LIST_CHARS_MAX ? `${text.slice(0, LIST_CHARS_MAX)}…` : text}`;
}
