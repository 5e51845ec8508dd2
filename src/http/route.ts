// What a route is, and how every answer is made. Each noun's file lists its routes as data; http.ts hangs them on
// Elysia and openapi.ts describes them, so the pages cannot drift from what is served. Nothing here knows of a task.
import { AppError, type ErrorCode } from "../errors.ts";
import { isTaskId } from "../ids.ts";
import type { Principal, Scope } from "../keys/principal.ts";
import type { BodyRoom } from "./body-room.ts";

/** One request on its way through a route. */
export interface Call {
  readonly request: Request;
  /** The `{id}` of the path as the client sent it: not yet checked. Empty where the path has none. */
  readonly id: string;
  readonly requestId: string;
}

export interface KeyedCall extends Call {
  /** The holder of the key: owns the tasks of this call. */
  readonly owner: Principal;
  /** For the body of this request. */
  readonly room: BodyRoom;
}

/** Problem details (RFC 9457), or OpenAI's nested `error`, which its SDKs read, on the routes that they call. */
export type ErrorFormat = "problem" | "openai";

interface RouteBase {
  readonly method: "GET" | "POST" | "DELETE";
  /** As OpenAPI writes it: `/v1/tasks/{id}`. At most one parameter, called `id`. */
  readonly path: string;
  /** The id is the rest of the path, slashes and all, as the client sent it (percent-encoded or not). */
  readonly idIsRest?: true;
  /** Default `problem`. */
  readonly errorFormat?: ErrorFormat;
  /** Absent for the files of the documentation pages, which are no operation of the API. */
  readonly operation?: Operation;
}

/** Open to all. */
export interface PublicRoute extends RouteBase {
  readonly access: "public";
  handle(call: Call): Response | Promise<Response>;
}

/** Needs an API key, checked before any byte of the body is read. */
export interface KeyedRoute extends RouteBase {
  readonly access: "key";
  /** What the key must be allowed to do. Default: `tasks:read` for GET, `tasks:write` for the rest. */
  readonly scope?: Scope;
  /** A ticket for its path does instead of a key. For GET alone. */
  readonly byTicket?: true;
  handle(call: KeyedCall): Response | Promise<Response>;
}

export type Route = PublicRoute | KeyedRoute;

export const scopeOf = (route: KeyedRoute): Scope =>
  route.scope ?? (route.method === "GET" ? "tasks:read" : "tasks:write");

/** What OpenAPI says about a route. */
export interface Operation {
  readonly id: string;
  readonly tag: string;
  readonly summary: string;
  readonly description: string;
  readonly parameters?: readonly Parameter[];
  /** The JSON body with a full example, or a form. */
  readonly body?: {
    readonly schema: string;
    readonly example: object;
    /** Default `application/json`. */
    readonly mediaType?: "application/json" | "multipart/form-data";
  };
  readonly answers: Readonly<Record<string, Answer>>;
  /** Every code that the handler can answer; the ones all routes share are added by openapi.ts. */
  readonly errors: readonly ErrorCode[];
}

export interface Parameter {
  readonly name: string;
  readonly in: "path" | "query" | "header";
  readonly description: string;
  readonly schema: object;
  readonly example?: unknown;
}

export interface Answer {
  readonly description: string;
  /** Media type to schema and example. */
  readonly content?: Readonly<Record<string, { readonly schema: object; readonly example?: unknown }>>;
  /** Header name to its description. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** The id of the path. Throws `task_not_found` for what cannot be one, so that nothing odd reaches a subject. */
export function taskIdOf(call: KeyedCall): string {
  if (!isTaskId(call.id)) throw new AppError("task_not_found", "There is no task with this id.");
  return call.id;
}

type HeaderFields = Record<string, string>;

/**
 * What every answer says to a browser; a route may say otherwise (docs.ts, result.ts). It belongs to one key and must
 * not stay in a proxy (`no-store`), it is what its content type says (`nosniff`), and it is no page: it may load, run
 * and frame nothing, no other site may embed it, and no link out of it tells where it stood. OWASP's list for REST.
 * Never written: each answer copies it, which costs half of what naming the fields anew does.
 */
const securityHeaders: Omit<Headers, "set" | "append" | "delete"> = new Headers({
  "x-content-type-options": "nosniff",
  "cache-control": "no-store",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-frame-options": "DENY",
});

function headersOf(call: Pick<Call, "requestId">, contentType: string | null, own?: HeaderFields): Headers {
  const all = new Headers(securityHeaders as Headers);
  all.set("x-request-id", call.requestId);
  if (contentType !== null) all.set("content-type", contentType);
  for (const name in own) all.set(name, own[name] ?? "");
  return all;
}

/** An answer of any type. For HEAD too the body is given: Bun counts it into content-length and does not send it. */
export function reply(
  call: Pick<Call, "requestId">,
  status: number,
  contentType: string,
  body: string | Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array> | null,
  headers?: HeaderFields,
): Response {
  return new Response(body, { status, headers: headersOf(call, contentType, headers) });
}

/** JSON text that is ready to be sent. */
export const replyJson = (
  call: Pick<Call, "requestId">,
  status: number,
  json: string,
  headers?: HeaderFields,
): Response => reply(call, status, "application/json", json, headers);

/** An answer without a body. */
export const replyEmpty = (call: Pick<Call, "requestId">, status: number, headers?: HeaderFields): Response =>
  new Response(null, { status, headers: headersOf(call, null, headers) });
