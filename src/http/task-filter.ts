// Queries and bodies that ask for tasks become a TaskFilter and a place in the list, checked against one schema. A name
// that is not known is refused: a filter that was misspelt and ignored would select everything.
import { AppError, type FieldProblem, invalidField } from "../errors.ts";
import type { Check } from "../registry/schema.ts";
import { type Position, positionOf, type TaskFilter } from "../tasks/filter.ts";
import { searchWords } from "../tasks/search-text.ts";
import type { Status } from "../tasks/task.ts";
import { invalidQuery, pointerTo } from "./query.ts";

/** The fields of `filterProperties` in find-schemas.ts. */
export interface FilterFields extends Pick<TaskFilter, "model" | "priority" | "q" | "metadata"> {
  readonly status?: Status;
  readonly created_after?: string;
  readonly created_before?: string;
}

export interface ListFields extends FilterFields {
  readonly limit?: number;
  readonly cursor?: string;
}

/** Words of one search; each is looked for in every row. */
const WORDS_MAX = 10;

/** The query of `GET /v1/tasks`. Throws `invalid_request`. */
export function listFields(query: URLSearchParams | null, check: Check): ListFields {
  const fields: Record<string, unknown> = {};
  const metadata: Record<string, string> = {};
  const problems: FieldProblem[] = [];
  for (const [name, value] of query ?? []) {
    const key = name.startsWith("metadata.") ? name.slice("metadata.".length) : null;
    if (Object.hasOwn(key === null ? fields : metadata, key ?? name)) {
      problems.push({ path: pointerTo(name), message: "is given twice" });
    } else if (key !== null) define(metadata, key, value);
    // The schema says of what is left as text that it must be a whole number.
    else define(fields, name, name === "limit" && /^\d{1,9}$/.test(value) ? Number(value) : value);
  }
  if (Object.keys(metadata).length > 0) {
    if ("metadata" in fields) problems.push({ path: "/metadata", message: "ask for one field: metadata.NAME=VALUE" });
    else fields.metadata = metadata;
  } else if ("metadata" in fields) problems.push({ path: "/metadata", message: "ask as metadata.NAME=VALUE" });
  if (problems.length === 0) problems.push(...check(fields));
  if (problems.length > 0) throw invalidQuery(problems);
  return fields;
}

/** A name like `__proto__` becomes a field like any other, and is refused as such. */
function define(target: object, name: string, value: unknown): void {
  Object.defineProperty(target, name, { value, enumerable: true, configurable: true, writable: true });
}

/** Fields that have passed the schema. `at` is where they stand in the body. Throws `invalid_request`. */
export function filterOf(fields: FilterFields, at = ""): TaskFilter {
  const { created_after, created_before, ...rest } = fields;
  const words = searchWords(fields.q ?? "").length;
  if (fields.q !== undefined && (words === 0 || words > WORDS_MAX)) {
    throw invalidField(`${at}/q`, `must have 1 to ${WORDS_MAX} words`);
  }
  return {
    ...rest,
    ...(created_after !== undefined && { createdAfterMs: Date.parse(created_after) }),
    ...(created_before !== undefined && { createdBeforeMs: Date.parse(created_before) }),
  };
}

/** Throws `invalid_request` for a cursor that no page has given. */
export function placeOf(cursor: string | undefined): Position | null {
  if (cursor === undefined) return null;
  const place = positionOf(cursor);
  if (place) return place;
  const fields = [{ path: "/cursor", message: "must be next_cursor of a page" }];
  throw new AppError("invalid_request", "The cursor is not valid.", { fields });
}
