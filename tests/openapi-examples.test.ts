// The examples of OpenAI's routes as the API's document has them, against a fresh installation with no settings of its
// own: each is answered as it stands, and as its schema says.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Ajv2020 } from "ajv/dist/2020.js";
import { llmEndpoints } from "../src/models/llm-models.ts";
import { type Stack, startStack } from "./stack.ts";

setDefaultTimeout(30_000);

interface Media {
  readonly schema: object;
  readonly example?: Readonly<Record<string, unknown>>;
}
interface Operation {
  readonly requestBody: { readonly content: Readonly<Record<string, Media>> };
  readonly responses: { readonly 200: { readonly content: Readonly<Record<string, Media>> } };
}
interface Document {
  readonly paths: Readonly<Record<string, { readonly post: Operation }>>;
  readonly components: object;
}

let stack: Stack;
let document: Document;
beforeAll(async () => {
  stack = await startStack({ settings: { MODELS: "echo" } });
  document = (await (await fetch(`${stack.url}/openapi.json`)).json()) as Document;
  await stack.until("the model", 10_000, async () =>
    (await stack.call("GET", "/v1/models/millrace-sim")).ok ? 1 : null,
  );
}, 60_000);
afterAll(() => stack?.stop());

const operationOf = (endpoint: string): Operation => (document.paths[`/v1/${endpoint}`] as { post: Operation }).post;
const exampleOf = (endpoint: string): Readonly<Record<string, unknown>> =>
  operationOf(endpoint).requestBody.content["application/json"]?.example ?? {};
/** What is wrong with an answer; null: nothing. */
function problemOf(endpoint: string, answer: unknown): string | null {
  const schema = operationOf(endpoint).responses[200].content["application/json"]?.schema;
  const ajv = new Ajv2020({ strict: false, validateFormats: false });
  const validate = ajv.compile({ ...schema, components: document.components });
  return validate(answer) ? null : ajv.errorsText(validate.errors);
}

test.each(llmEndpoints.filter((endpoint) => !endpoint.startsWith("audio/")))("%s", async (endpoint) => {
  const response = await stack.call("POST", `/v1/${endpoint}`, exampleOf(endpoint));
  expect([response.status, problemOf(endpoint, await response.json())]).toEqual([200, null]);
});

test.each(["chat/completions", "completions"])("%s with stream", async (endpoint) => {
  const response = await stack.call("POST", `/v1/${endpoint}`, { ...exampleOf(endpoint), stream: true });
  const text = await response.text();
  expect([response.status, text.endsWith("data: [DONE]\n\n"), text.includes('"error"')]).toEqual([200, true, false]);
});

test("audio: what is spoken is written down", async () => {
  const speech = exampleOf("audio/speech");
  const spoken = await stack.call("POST", "/v1/audio/speech", { ...speech, response_format: "wav" });
  expect([spoken.status, (await stack.call("POST", "/v1/audio/speech", speech)).status]).toEqual([200, 200]);
  const { file, ...fields } =
    operationOf("audio/transcriptions").requestBody.content["multipart/form-data"]?.example ?? {};
  expect(file).toBeString();
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, String(value));
  form.append("file", new File([await spoken.arrayBuffer()], "speech.wav", { type: "audio/wav" }));
  const response = await fetch(`${stack.url}/v1/audio/transcriptions`, {
    method: "POST",
    headers: { "x-api-key": stack.key },
    body: form,
  });
  expect([response.status, problemOf("audio/transcriptions", await response.json())]).toEqual([200, null]);
});
