// The API's document against what is served: same paths, every field and every error described, and pages that need
// nothing but this origin. The tasks behind the server have no part in it.
import { expect, test } from "bun:test";
import { Ajv2020 } from "ajv/dist/2020.js";
import { errorKinds } from "../src/errors.ts";
import { startFixture } from "../src/http/server-fixture.ts";
import { isTaskId } from "../src/ids.ts";
import { startStack } from "./stack.ts";

interface Schema {
  readonly $ref?: string;
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly required?: readonly string[];
  readonly additionalProperties?: unknown;
}
interface Media {
  readonly schema: Schema;
  readonly example?: unknown;
  readonly examples?: Readonly<Record<string, { readonly value: { readonly code: string; readonly status: number } }>>;
}
interface Operation {
  readonly operationId: string;
  readonly description: string;
  readonly security: readonly object[];
  readonly parameters: readonly { readonly name: string; readonly in: string; readonly description: string }[];
  readonly requestBody?: { readonly content: Readonly<Record<string, Media>> };
  readonly responses: Readonly<
    Record<string, { readonly description: string; readonly content?: Readonly<Record<string, Media>> }>
  >;
}
interface Document {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

const read = async (url: string): Promise<Document> => (await (await fetch(`${url}/openapi.json`)).json()) as Document;

const operationsOf = (document: Document): readonly (readonly [string, Operation])[] =>
  Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => [`${method.toUpperCase()} ${path}`, operation] as const),
  );

test("paths are exactly the routes that Elysia serves", async () => {
  await using server = await startFixture();
  const documented = operationsOf(await read(server.url)).map(([name]) => name);
  const served = server.http.app.routes.map(
    ({ method, path }) => `${method} ${path.replace(/:id$|:id(?=\/)|\*$/, "{id}")}`,
  );
  const pages = [
    "GET /docs",
    "GET /docs/init.js",
    "GET /docs/swagger-ui.css",
    "GET /docs/swagger-ui-bundle.js",
    "GET /docs/favicon.png",
  ];
  expect([...documented, ...pages].sort()).toEqual([...served].sort());
});

test("every operation has a name of its own, a description, its path parameter, and problems with examples", async () => {
  await using server = await startFixture();
  const operations = operationsOf(await read(server.url));
  expect(new Set(operations.map(([, operation]) => operation.operationId)).size).toBe(operations.length);
  for (const [name, operation] of operations) {
    expect([name, operation.description.length > 20]).toEqual([name, true]);
    expect([name, operation.parameters.some((parameter) => parameter.in === "path")]).toEqual([
      name,
      name.includes("{id}"),
    ]);
    for (const parameter of operation.parameters) expect(parameter.description).not.toBe("");
    const codes = codesOf(operation);
    expect(codes).toContain("internal");
    if (name.includes("/v1/")) expect(codes).toContain("unauthorized");
    expect([name, operation.security.length > 0]).toEqual([name, name.includes("/v1/")]);
    for (const [status, response] of Object.entries(operation.responses)) {
      expect(response.description).not.toBe("");
      for (const { value } of Object.values(response.content?.["application/problem+json"]?.examples ?? {})) {
        expect(String(value.status)).toBe(status);
      }
    }
  }
});

test("every code of a request stands on some operation", async () => {
  await using server = await startFixture();
  const documented = new Set(operationsOf(await read(server.url)).flatMap(([, operation]) => codesOf(operation)));
  // These two answer paths and methods that are no operation; the document's description names the second.
  const elsewhere = ["route_not_found", "method_not_allowed"];
  const ofRequests = Object.entries(errorKinds).filter(([code, { status }]) => status > 0 && !elsewhere.includes(code));
  expect([...documented].sort()).toEqual(ofRequests.map(([code]) => code).sort());
});

test("whatever needs the database says how it answers without it", async () => {
  await using server = await startFixture();
  const keyed = operationsOf(await read(server.url)).filter(([, { security }]) => security.length > 0);
  const others = keyed.filter(([, operation]) => !codesOf(operation).includes("database_unavailable"));
  expect(others.map(([name]) => name).sort()).toEqual([
    "GET /v1/actors",
    "GET /v1/models",
    "GET /v1/models/{id}",
    "GET /v1/queues",
    "POST /v1/audio/speech",
    "POST /v1/audio/transcriptions",
    "POST /v1/chat/completions",
    "POST /v1/completions",
    "POST /v1/embeddings",
    "POST /v1/images/generations",
    "POST /v1/tasks",
    "POST /v1/tasks/batch",
  ]);
});

test("every field of every schema is described, and every reference leads somewhere", async () => {
  await using server = await startFixture();
  const document = await read(server.url);
  const { schemas } = document.components;
  const undescribed: string[] = [];
  const walk = (schema: Schema, path: string): void => {
    if (schema.$ref) expect(Object.keys(schemas)).toContain(schema.$ref.replace("#/components/schemas/", ""));
    for (const [name, field] of Object.entries(schema.properties ?? {})) {
      if (!field.description) undescribed.push(`${path}.${name}`);
      walk(field, `${path}.${name}`);
    }
    if (schema.items) walk(schema.items, `${path}[]`);
  };
  for (const [name, schema] of Object.entries(schemas)) walk(schema, name);
  const media = operationsOf(document).flatMap(([, { responses }]) =>
    Object.values(responses).flatMap(({ content }) => Object.values(content ?? {})),
  );
  for (const { schema } of media) walk(schema, "answer");
  expect(undescribed).toEqual([]);
});

test("every example is as its schema says, and every answer in JSON has one", async () => {
  await using server = await startFixture();
  const document = await read(server.url);
  const { components } = document;
  const ajv = new Ajv2020({ strict: false, validateFormats: false });
  const wrong: string[] = [];
  for (const [name, { requestBody, responses }] of operationsOf(document)) {
    if (name === "GET /openapi.json") continue;
    for (const { content = {} } of [requestBody ?? {}, ...Object.values(responses)]) {
      for (const [type, { schema, example, examples = {} }] of Object.entries(content)) {
        if (!type.endsWith("json")) continue;
        const validate = ajv.compile({ ...schema, components });
        const given = example === undefined ? Object.values(examples).map(({ value }) => value) : [example];
        if (given.length === 0) wrong.push(`${name}: none`);
        for (const one of given) if (!validate(one)) wrong.push(`${name}: ${ajv.errorsText(validate.errors)}`);
      }
    }
  }
  expect(wrong).toEqual([]);
});

test("the examples are accepted by the service they describe", async () => {
  await using server = await startFixture();
  const document = await read(server.url);
  const example = document.paths["/v1/tasks"]?.post?.requestBody?.content["application/json"]?.example as object;
  const response = await server.send("/v1/tasks", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...example, model: "echo" }),
  });
  expect(response.status).toBe(202);
  const accepted = document.paths["/v1/tasks"]?.post?.responses["202"]?.content?.["application/json"]?.example;
  expect(isTaskId((accepted as { task_id: string }).task_id)).toBe(true);
  expect(new RegExp(patternOf(document)).test((accepted as { task_id: string }).task_id)).toBe(true);
});

test("real tasks have no field that the document does not describe", async () => {
  const stack = await startStack();
  try {
    const { schemas } = (await read(stack.url)).components;
    const done = await stack.submit({ model: "echo", input: {}, metadata: { order: "1" } });
    const failed = await stack.submit({ model: "echo", input: { fail_times: 1 }, max_attempts: 1 });
    const cancelled = await stack.submit({ model: "echo", input: { sleep_ms: 3_600_000 } });
    const waiting = await stack.read(cancelled.task_id);
    const cancel = await (await stack.call("POST", `/v1/tasks/${cancelled.task_id}/cancel`)).json();
    const tasks = [waiting, ...(await Promise.all([done, failed, cancelled].map((task) => stack.ended(task.task_id))))];
    expect(tasks.slice(1).map((task) => task.status)).toEqual(["SUCCESS", "FAILURE", "CANCELLED"]);
    for (const task of tasks) expect(undescribedOf(task, schemas.Task)).toEqual([]);
    expect(undescribedOf(done, schemas.Accepted)).toEqual([]);
    expect(undescribedOf(cancel, schemas.CancelRequested)).toEqual([]);
    const list = await stack.until("the row of the failure", 10_000, async () => {
      const page = (await (await stack.call("GET", "/v1/tasks?status=FAILURE")).json()) as { data: object[] };
      return page.data.length === 1 ? page : null;
    });
    expect(undescribedOf(list, schemas.TaskList)).toEqual([]);
    for (const task of list.data) expect(undescribedOf(task, schemas.Task)).toEqual([]);
    const retried = (await (await stack.call("POST", "/v1/tasks/retry", { filter: {} })).json()) as { data: object[] };
    expect(undescribedOf(retried, schemas.BulkResult)).toEqual([]);
    expect(retried.data).toHaveLength(1);
    for (const item of retried.data)
      expect(undescribedOf(item, schemas.BulkResult?.properties?.data?.items)).toEqual([]);
    for (const model of ((await (await stack.call("GET", "/v1/models")).json()) as { data: object[] }).data) {
      expect(undescribedOf(model, schemas.Model)).toEqual([]);
    }
  } finally {
    await stack.stop();
  }
});

test("the pages name no other origin and hold no inline script", async () => {
  await using server = await startFixture();
  const page = await fetch(`${server.url}/docs`);
  const html = await page.text();
  const policy = page.headers.get("content-security-policy") ?? "";
  expect(policy).toContain("default-src 'none'");
  expect(policy).toContain("script-src 'self';");
  expect(policy).not.toContain("http");
  expect(html).not.toMatch(/https?:|\/\/|<style|\son\w+=|<script>|<script [^>]*>[^<]/);
  const linked = [...html.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, path]) => path ?? "");
  expect(linked.length).toBeGreaterThan(3);
  for (const path of linked) {
    const response = await fetch(server.url + path);
    expect([path, response.status]).toEqual([path, 200]);
    expect((await response.arrayBuffer()).byteLength).toBeGreaterThan(100);
  }
  const init = await (await fetch(`${server.url}/docs/init.js`)).text();
  expect(init).not.toMatch(/https?:/);
  expect(init).toContain("validatorUrl: null");
});

const codesOf = (operation: Operation): string[] =>
  Object.values(operation.responses).flatMap(({ content }) =>
    Object.keys((content?.["application/problem+json"] ?? content?.["application/json"])?.examples ?? {}),
  );

const patternOf = (document: Document): string => {
  const task = document.components.schemas.Task?.properties?.task_id as { pattern: string };
  return task.pattern;
};

/** Fields of `value` that `schema` does not name, as far as it names fields; and those it requires that are missing. */
function undescribedOf(value: unknown, schema: Schema | undefined): string[] {
  if (typeof value !== "object" || value === null || !schema?.properties || Array.isArray(value)) return [];
  const { properties, required = [] } = schema;
  const missing = required.filter((name) => !(name in value)).map((name) => `${name} (missing)`);
  const found = Object.entries(value).flatMap(([name, field]) =>
    name in properties
      ? undescribedOf(field, properties[name]).map((inner) => `${name}.${inner}`)
      : schema.additionalProperties === true
        ? []
        : [name],
  );
  return [...missing, ...found];
}
