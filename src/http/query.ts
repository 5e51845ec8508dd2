// The query of a request, and the refusal of one. Routes that take parameters call it; what they mean is theirs.
import { AppError, type FieldProblem } from "../errors.ts";

/** Null without one, which is the usual case and costs no parsing. */
export function queryOf(request: Request): URLSearchParams | null {
  const start = request.url.indexOf("?");
  return start < 0 ? null : new URLSearchParams(request.url.slice(start + 1));
}

/** The JSON Pointer of a parameter that a client has named, as far as it needs to be told back. */
export const pointerTo = (name: string): string => `/${name.slice(0, 100).replaceAll("~", "~0").replaceAll("/", "~1")}`;

/** An `invalid_request` whose `fields` name parameters, as `/name`. */
export const invalidQuery = (fields: readonly FieldProblem[]): AppError =>
  new AppError("invalid_request", "The query is not valid.", { fields });
