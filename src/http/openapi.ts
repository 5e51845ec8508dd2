// The OpenAPI 3.1 document, rendered from the route table that is served, so that the two cannot differ. Called once,
// when the document is first asked for.
import { type ErrorCode, errorKinds } from "../errors.ts";
import { findSchemas } from "./find-schemas.ts";
import { openAiError, openAiStatus } from "./openai-error.ts";
import { problemBody } from "./problem.ts";
import { type ErrorFormat, type Operation, type Route, scopeOf } from "./route.ts";
import { schemas } from "./schemas.ts";
import { usageSchemas } from "./usage-schemas.ts";

/** What every operation can answer, and what every one that needs a key can. */
const sharedErrors: readonly ErrorCode[] = ["internal"];
const keyedErrors: readonly ErrorCode[] = ["ambiguous_credentials", "unauthorized", "forbidden", "rate_limited"];

const exampleRequestId = "5e2f0f7a-6f0d-4f0f-9b0c-0d7b6f1c2a11";

const requestIdParameter = {
  name: "x-request-id",
  in: "header",
  required: false,
  description: "Your name for this request, 1 to 128 of `A-Za-z0-9_-`; it comes back and stands in the logs.",
  schema: { type: "string", pattern: "^[A-Za-z0-9_-]{1,128}$" },
};

/** On every answer to a key that has a limit (draft-ietf-httpapi-ratelimit-headers-11). */
const limitHeaders = {
  "RateLimit-Policy": {
    description: 'The limit of this key, as in `"minute";q=600;w=60`: 600 requests in a window of 60 seconds.',
    schema: { type: "string" },
  },
  RateLimit: {
    description: 'What is left of it, as in `"minute";r=42;t=17`: 42 requests in the next 17 seconds.',
    schema: { type: "string" },
  },
};

const limitHeaderReferences = Object.fromEntries(
  Object.keys(limitHeaders).map((name) => [name, { $ref: `#/components/headers/${name}` }]),
);

const requestIdHeader = {
  "x-request-id": { description: "The name of this request.", schema: { type: "string" } },
};

/** The document for these routes; routes without an operation are no part of the API. */
export function openapiDocument(routes: readonly Route[], version: string): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of routes) {
    if (!route.operation) continue;
    const operation = operationObject(route.operation, route);
    paths[route.path] = { ...paths[route.path], [route.method.toLowerCase()]: operation };
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Millrace",
      version,
      description:
        "GPU and LLM work as tasks: submit, wait or follow, fetch the result. Errors are problem+json (RFC 9457) with " +
        "a stable `code`. Times are RFC 3339 in UTC with milliseconds. HEAD works wherever GET does; OPTIONS names " +
        "the methods of a path, and another method is answered with 405 `method_not_allowed`.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/", description: "This gateway." }],
    tags: [
      { name: "Tasks", description: "Work that is kept until it has ended." },
      { name: "Language models", description: "Models that answer at once, in the shape of the OpenAI API." },
      { name: "Files", description: "Uploads, in the shape of the OpenAI API." },
      { name: "Schedules", description: "Tasks that come again and again." },
      { name: "Models", description: "What can run." },
      { name: "Queues", description: "What waits, and who works." },
      { name: "Webhooks", description: "Results that come to you." },
      { name: "Usage", description: "Tokens, and what is left of them." },
      { name: "Operation", description: "For those who run the service." },
    ],
    paths,
    components: {
      schemas: { ...schemas, ...findSchemas, ...usageSchemas },
      headers: limitHeaders,
      securitySchemes: {
        apiKey: { type: "apiKey", in: "header", name: "x-api-key", description: "An API key that has the scope." },
        ticket: { type: "apiKey", in: "query", name: "ticket", description: "A ticket of POST /v1/tasks/{id}/links." },
        bearer: { type: "http", scheme: "bearer", description: "The same key as a Bearer token." },
      },
    },
  };
}

/** Where a key is needed its scope stands beside each scheme, as OpenAPI 3.1 §4.8.30 allows for all. */
function operationObject(operation: Operation, route: Route): object {
  const { errorFormat = "problem" } = route;
  const scope = route.access === "key" ? scopeOf(route) : null;
  const byTicket = route.access === "key" && route.byTicket === true;
  const errors = [...(byTicket ? (["link_expired"] as const) : []), ...errorsOf(operation, scope !== null)];
  const parameters = (operation.parameters ?? []).map((parameter) => ({
    required: parameter.in === "path",
    ...parameter,
  }));
  return {
    operationId: operation.id,
    tags: [operation.tag],
    summary: operation.summary,
    description: operation.description,
    security: scope ? [{ apiKey: [scope] }, { bearer: [scope] }, ...(byTicket ? [{ ticket: [] }] : [])] : [],
    parameters: [...parameters, requestIdParameter],
    ...(operation.body ? { requestBody: requestBody(operation.body) } : {}),
    responses: { ...answers(operation, scope !== null), ...problems(errors, errorFormat) },
  };
}

const requestBody = ({ schema, example, mediaType = "application/json" }: NonNullable<Operation["body"]>): object => ({
  required: true,
  description: mediaType === "application/json" ? "JSON in UTF-8, not compressed." : "A form, not compressed.",
  content: { [mediaType]: { schema: { $ref: `#/components/schemas/${schema}` }, example } },
});

function answers(operation: Operation, keyed: boolean): Record<string, object> {
  const entries = Object.entries(operation.answers).map(([status, { description, content, headers = {} }]) => {
    const described = Object.entries(headers).map(([name, text]) => [
      name,
      { description: text, schema: { type: "string" } },
    ]);
    const all = { ...requestIdHeader, ...(keyed ? limitHeaderReferences : {}), ...Object.fromEntries(described) };
    return [status, { description, headers: all, ...(content ? { content } : {}) }];
  });
  return Object.fromEntries(entries);
}

/** Every code that an operation can answer. */
const errorsOf = (operation: Operation, keyed: boolean): readonly ErrorCode[] => [
  ...(keyed ? keyedErrors : []),
  ...operation.errors,
  ...sharedErrors,
];

/** One response a status, with one example a code. */
function problems(codes: readonly ErrorCode[], format: ErrorFormat): Record<string, object> {
  const byStatus = Map.groupBy(codes, (code) => (format === "openai" ? openAiStatus(code) : errorKinds[code].status));
  const entries = [...byStatus].map(([status, group]) => [
    String(status),
    {
      description: group.map((code) => `\`${code}\`: ${errorKinds[code].title}.`).join(" "),
      headers: { ...requestIdHeader, ...(status === 429 ? limitHeaderReferences : {}), ...retryAfter(status) },
      content: format === "openai" ? openAiContent(group) : problemContent(group),
    },
  ]);
  return Object.fromEntries(entries);
}

const problemContent = (codes: readonly ErrorCode[]): object => ({
  "application/problem+json": {
    schema: { $ref: "#/components/schemas/Problem" },
    examples: Object.fromEntries(
      codes.map((code) => [code, { value: problemBody(code, `${errorKinds[code].title}.`, exampleRequestId) }]),
    ),
  },
});

const openAiContent = (codes: readonly ErrorCode[]): object => ({
  "application/json": {
    schema: { $ref: "#/components/schemas/OpenAiError" },
    examples: Object.fromEntries(
      codes.map((code) => [code, { value: openAiError(code, `${errorKinds[code].title}.`) }]),
    ),
  },
});

const retryAfter = (status: number): object =>
  status === 503 || status === 429
    ? { "Retry-After": { description: "Seconds after which a repeat makes sense.", schema: { type: "integer" } } }
    : {};
