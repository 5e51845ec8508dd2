// Every fault that the simulator knows, through the whole service: what the client must see of it. Each fault has a model
// of its own, so that the breaker of one says nothing to another, and waits of milliseconds.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Simulator, startSimulator } from "../src/sim/simulator.ts";
import { type Stack, startStack, until } from "./stack.ts";

/**
 * A fault; what is seen of it where a stream was asked for, and where the whole answer was. `ok`: the answer, unharmed.
 * `500 code`: this status. `event code`: the beginning of the answer, the error as an event, [DONE].
 */
const rows: readonly (readonly [fault: string, stream: string, whole: string])[] = [
  ["status=400; message=no such tool", "400 invalid_request", "400 invalid_request"],
  ["status=404", "404 not_found", "404 not_found"],
  ["status=422", "422 invalid_request", "422 invalid_request"],
  ["status=401", "502 upstream_unauthorized", "502 upstream_unauthorized"],
  ["status=408", "502 upstream_failed", "502 upstream_failed"],
  ["status=429; retry_after=7", "429 model_overloaded", "429 model_overloaded"],
  ["status=500", "502 upstream_failed", "502 upstream_failed"],
  ["status=503", "429 model_overloaded", "429 model_overloaded"],
  ["status=503; message=starting", "503 model_unavailable", "503 model_unavailable"],
  // What stands before a server answers in words of its own.
  ["status=400; body=<html>Bad Request</html>", "400 invalid_request", "400 invalid_request"],
  ["status=413; body=<html>Too Large</html>", "413 payload_too_large", "413 payload_too_large"],
  ["status=502; body=<html>Bad Gateway</html>", "502 upstream_failed", "502 upstream_failed"],
  ["status=503; body=<html>no server is available</html>", "503 model_unavailable", "503 model_unavailable"],
  ["reset", "502 upstream_failed", "502 upstream_failed"],
  ["hang", "504 upstream_timeout", "504 upstream_timeout"],
  ["delay_ms=20", "ok", "ok"],
  ["content_type=text/html", "502 upstream_failed", "502 upstream_failed"],
  ["cut", "502 upstream_failed", "502 upstream_failed"],
  // The pause lets the first tokens out: what comes in one piece with its failure is no answer that has begun.
  ["after=3; cut", "event upstream_failed", "502 upstream_failed"],
  ["end", "502 upstream_failed", "502 upstream_failed"],
  ["after=3; stall_ms=150; end", "event upstream_failed", "502 upstream_failed"],
  ["error", "502 upstream_failed", "502 upstream_failed"],
  ["after=3; stall_ms=150; error", "event upstream_failed", "502 upstream_failed"],
  ["after=3; stall_ms=150; error; no_done", "event upstream_failed", "502 upstream_failed"],
  // A server that is put to sleep ends its answers so.
  ["abort", "502 upstream_failed", "502 upstream_failed"],
  ["after=3; stall_ms=150; abort", "event upstream_failed", "502 upstream_failed"],
  ["after=3; stall_ms=150; malformed", "event upstream_failed", "502 upstream_failed"],
  ["after=3; stall_ms=20", "ok", "ok"],
  ["after=3; hang", "event upstream_timeout", "504 upstream_timeout"],
  ["after=3; empty_choices", "ok", "502 upstream_failed"],
  ["after=3; comments=1000", "ok", "ok"],
  // Nothing in a token says that it came before.
  ["after=3; duplicate", "a longer text", "ok"],
  ["split=1", "ok", "ok"],
  ["merge=5", "ok", "ok"],
  ["crlf", "ok", "ok"],
  ["itl_ms=2", "ok", "ok"],
  ["no_done", "ok", "ok"],
  ["no_usage", "ok", "ok"],
  ["wrong_usage", "ok", "ok"],
];

const nameOf = (row: number): string => `faults/m${row}`;

let sim: Simulator;
let stack: Stack;
let folder: string;
let whole = "";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace-faults-"));
  sim = await startSimulator({ models: ["*"] });
  const providerOf = (row: number): string => (rows[row]?.[0] === "status=401" ? "refusing" : "quick");
  const provider = {
    kind: "vllm",
    base_url: `${sim.url}/v1`,
    timeouts: { first_token_ms: 400, between_tokens_ms: 400, total_ms: 1_000 },
  };
  const models = Object.fromEntries(
    [...rows.keys(), rows.length].map((row) => [
      nameOf(row),
      { variants: [{ provider: providerOf(row), model: `org/m${row}` }] },
    ]),
  );
  const file = join(folder, "models.yaml");
  await Bun.write(file, JSON.stringify({ providers: { quick: provider, refusing: provider }, models }));
  stack = await startStack({ settings: { MODELS: "echo", MODELS_FILE: file } });
  whole = (await ask(rows.length, false, null)).text;
});
afterAll(async () => {
  await stack?.stop();
  await sim?.stop();
  await rm(folder, { recursive: true, force: true });
});

interface Seen {
  readonly response: Response;
  readonly body: string;
  /** The text of the answer, whole or in part. */
  readonly text: string;
  readonly error: { readonly code: string; readonly message: string } | null;
}

async function ask(row: number, stream: boolean, fault: string | null): Promise<Seen> {
  const response = await stack.call("POST", "/v1/chat/completions", {
    model: nameOf(row),
    messages: [{ role: "user", content: "What turns the wheel?" }],
    seed: 1,
    stream,
    ...(fault !== null && { vllm_xargs: { sim_fault: fault } }),
  });
  const body = await response.text();
  const isStream = response.headers.get("content-type") === "text/event-stream";
  const events = isStream ? [...body.matchAll(/^data: (\{.*\})$/gm)].map(([, json]) => JSON.parse(json ?? "")) : [];
  const object = isStream ? { error: events.find((event) => "error" in event)?.error } : JSON.parse(body);
  const pieces = events.map((event) => event.choices?.[0]?.delta.content ?? "");
  const text = isStream ? pieces.join("") : (object.choices?.[0]?.message.content ?? "");
  return { response, body, text, error: object.error ?? null };
}

/** In the words of the table. */
function told({ response, body, text, error }: Seen): string {
  if (response.status !== 200) return `${response.status} ${error?.code}`;
  const isStream = response.headers.get("content-type") === "text/event-stream";
  if (isStream && !body.endsWith("data: [DONE]\n\n")) return "a silent end";
  if (error)
    return text !== "" && text !== whole && whole.startsWith(text) ? `event ${error.code}` : `event in ${text}`;
  if (text.length > whole.length && text.endsWith(whole.slice(-20))) return "a longer text";
  return text === whole ? "ok" : `another text: ${text}`;
}

test("every fault of a model server has its outcome, streamed and whole", async () => {
  expect(whole.length).toBeGreaterThan(10);
  const seen = await Promise.all(
    rows.map(async ([fault], row) => {
      const streamed = await ask(row, true, fault);
      const answered = await ask(row, false, fault);
      for (const one of [streamed, answered]) {
        // Our own tries are spent: the SDKs are told not to multiply them.
        if (one.response.status >= 500) expect(one.response.headers.get("x-should-retry")).toBe("false");
        if (one.response.status === 429) expect(one.response.headers.get("x-should-retry")).toBeNull();
        expect(one.body).not.toContain(new URL(sim.url).host);
      }
      return [fault, told(streamed), told(answered)] as const;
    }),
  );
  expect(seen).toEqual(rows as never);
});

test("the table has every part of a fault", async () => {
  const source = await Bun.file(join(import.meta.dir, "../src/sim/fault.ts")).text();
  const parts = [...source.matchAll(/^ {2}readonly (\w+)\?:/gm)].map((match) => match[1] ?? "");
  expect(parts.length).toBeGreaterThan(20);
  const inTable = rows.flatMap(([fault]) => fault.split("; ").map((part) => part.replace(/=.*/, "")));
  // The death of the engine, and of its socket, have tests of their own.
  expect(parts.filter((part) => !["dead", "refuse_ms"].includes(part) && !inTable.includes(part))).toEqual([]);
});

test("a full server's wait is passed on", async () => {
  const row = rows.findIndex(([fault]) => fault.includes("retry_after"));
  const { response } = await ask(row, true, "status=429; retry_after=7");
  expect([response.headers.get("retry-after"), response.headers.get("retry-after-ms")]).toEqual(["7", "7000"]);
});

test("a dead engine is 502, then out of reach, and answers again when it is back", async () => {
  const dying = await ask(rows.length, true, "dead");
  expect(told(dying)).toBe("502 upstream_failed");
  await fetch(`${sim.url}/admin/config`, { method: "POST", body: JSON.stringify({ engine_dead: false }) });
  expect(told(await ask(rows.length, true, null))).toBe("ok");
});

test("a server that refuses connections is unavailable, and answers again when it listens", async () => {
  const refused = await ask(rows.length, true, "refuse_ms=1500");
  expect(told(refused)).toBe("503 model_unavailable");
  const listens = (): Promise<true | null> =>
    fetch(`${sim.url}/health`).then(
      () => true,
      () => null,
    );
  await until("it listens", 10_000, listens);
  const answered = async () => (told(await ask(rows.length, true, null)) === "ok" ? true : null);
  await until("an answer", 10_000, answered);
});
