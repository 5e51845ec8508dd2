// Reads the catalogue of bad inputs (bad-inputs.jsonl) and turns a row into what goes over the wire. A row is
// {name, method, path, headers, body, expect_status, note}; the test runs it. Bodies that are too large or too odd for
// JSON are written as forms:
//
//   "text"                      the text as it is            {"$nest": {depth, wrap}}         that many brackets
//   {"$raw_body": text}         the same                     {"$many_keys": {count}}          an input of that many keys
//   {"$b64": text}              bytes                        {"$repeat": {unit, count, wrap}} a unit, over and over
//   {"$repeat_request": {times, body}}  one after another    {"$concurrent": {times, body}}   all at once
//     with vary_header: that header is another address each time
//   {"$many_parts": {count}}    a form of that many fields
//   {"$raw": text}              a whole request, for method RAW; in headers {"$str": {unit, count}} is a long value
//
// {{NAME}} stands for a value that the test knows.
import { readFileSync } from "node:fs";
import { connect } from "node:net";

export interface Row {
  readonly name: string;
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: unknown;
  readonly expect_status: number;
  readonly note: string;
}

export interface Answered {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

export type Values = ReadonlyMap<string, string>;

interface Forms {
  readonly $raw?: string;
  readonly $raw_body?: string;
  readonly $b64?: string;
  readonly $nest?: { readonly depth: number; readonly wrap: readonly [string, string] };
  readonly $many_keys?: { readonly count: number };
  readonly $repeat?: { readonly unit: string; readonly count: number; readonly wrap: readonly [string, string] };
  readonly $repeat_request?: { readonly times: number | string; readonly body: unknown; readonly vary_header?: string };
  readonly $many_parts?: { readonly count: number };
  readonly $concurrent?: { readonly times: number; readonly body: unknown };
  readonly $str?: { readonly unit: string; readonly count: number };
}

export const readRows = (): readonly Row[] =>
  readFileSync(new URL("bad-inputs.jsonl", import.meta.url), "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Row);

/** The answers to a row, in order; one for most rows. */
export async function runRow(url: string, row: Row, values: Values): Promise<readonly Answered[]> {
  const form = formOf(row.body);
  if (form.$raw !== undefined) return [await sendRaw(url, fill(form.$raw, values))];
  if (form.$concurrent) {
    const { times, body } = form.$concurrent;
    return Promise.all(Array.from({ length: times }, () => send(url, row, body, values)));
  }
  const { times, body, vary_header: varied } = form.$repeat_request ?? { times: 1, body: row.body };
  const answers: Answered[] = [];
  for (let i = 0; i < Number(fill(String(times), values)); i++) {
    const headers = varied === undefined ? row.headers : { ...row.headers, [varied]: `203.0.113.${i % 256}` };
    answers.push(await send(url, { ...row, headers }, body, values));
  }
  return answers;
}

async function send(url: string, row: Row, body: unknown, values: Values): Promise<Answered> {
  const headers = new Headers();
  for (const [name, value] of Object.entries(row.headers)) headers.set(name, fill(headerValue(value), values));
  const bytes = body === null ? null : bytesOf(body, values);
  const response = await fetch(url + fill(row.path, values), {
    method: row.method,
    headers,
    body: bytes,
    redirect: "manual",
  });
  return { status: response.status, headers: response.headers, text: await response.text() };
}

/** As bytes always: fetch would add a content-type of its own to a string. */
function bytesOf(body: unknown, values: Values): Uint8Array<ArrayBuffer> {
  const form = formOf(body);
  if (form.$b64 !== undefined) return Uint8Array.from(Buffer.from(form.$b64, "base64"));
  return new TextEncoder().encode(
    fill(typeof body === "string" ? body : (textOf(form) ?? JSON.stringify(body)), values),
  );
}

function textOf(form: Forms): string | undefined {
  if (form.$raw_body !== undefined) return form.$raw_body;
  if (form.$nest) return form.$nest.wrap.join("[".repeat(form.$nest.depth) + "]".repeat(form.$nest.depth));
  if (form.$repeat) return form.$repeat.wrap.join(form.$repeat.unit.repeat(form.$repeat.count));
  if (form.$many_parts) {
    const part = (i: number): string => `--x\r\ncontent-disposition: form-data; name="f${i}"\r\n\r\n1\r\n`;
    return `${Array.from({ length: form.$many_parts.count }, (_, i) => part(i)).join("")}--x--\r\n`;
  }
  if (!form.$many_keys) return undefined;
  const keys = Array.from({ length: form.$many_keys.count }, (_, i) => [`k${i}`, 0]);
  return JSON.stringify({ model: "{{MODEL}}", input: Object.fromEntries(keys) });
}

const formOf = (body: unknown): Forms =>
  typeof body === "object" && body !== null && !Array.isArray(body) ? body : {};

function headerValue(value: unknown): string {
  const { $str } = formOf(value);
  return $str ? $str.unit.repeat($str.count) : String(value);
}

/** {{NAME}} by its value, {{4000xA}} by that many of that letter. A name that nobody knows is a broken row. */
const fill = (text: string, values: Values): string =>
  text.replace(/\{\{(?:(\d+)x(.)|(\w+))\}\}/g, (_all, count?: string, letter?: string, name?: string) => {
    if (count !== undefined && letter !== undefined) return letter.repeat(Number(count));
    const value = values.get(name ?? "");
    if (value === undefined) throw new Error(`no value for {{${name}}}`);
    return value;
  });

/** Bytes that no HTTP client would send. Resolves when the server has closed, which it does after a bad request. */
const sendRaw = (url: string, text: string): Promise<Answered> =>
  new Promise((resolve, reject) => {
    const { hostname, port } = new URL(url);
    let got = "";
    const socket = connect(Number(port), hostname, () => socket.write(text));
    socket.on("data", (bytes: Buffer) => {
      got += bytes.toString("latin1");
    });
    socket.on("error", reject);
    socket.on("close", () =>
      resolve({ status: Number(/^HTTP\/1\.1 (\d{3})/.exec(got)?.[1] ?? 0), headers: new Headers(), text: got }),
    );
  });
