import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { folderBlobs } from "../src/blobs/folder.ts";
import { systemClock } from "../src/clock.ts";
import { openAiClient } from "../src/llm/client.ts";
import type { LlmCaller, LlmRequest } from "../src/llm/llm.ts";
import { type OneServer, openOneServer } from "../src/llm/one-server.ts";
import { silentLog } from "../src/log.ts";
import { type LoadedRunner, loadRunner } from "../src/registry/stages.ts";
import { type Simulator, startSimulator } from "../src/sim/simulator.ts";
import embed from "./embed.ts";

let simulator: Simulator;
let server: OneServer;
let runner: LoadedRunner;
let folder: string;
/** What the model server was asked for. */
const calls: LlmRequest[] = [];

beforeAll(async () => {
  simulator = await startSimulator();
  server = await openOneServer(simulator.url);
  folder = await mkdtemp(join(tmpdir(), "millrace-embed-"));
  const caller: LlmCaller = {
    call(request) {
      calls.push(request);
      return server.caller.call(request);
    },
  };
  const unused = () => Promise.reject(new Error("not used here"));
  runner = await loadRunner(embed, {
    log: silentLog,
    gpu: "0",
    blobs: folderBlobs(folder),
    clock: systemClock,
    fetchInput: unused,
    readImage: unused,
    openLlm: ({ task, signal }) => {
      const identity = { keyId: task.ownerId, requestId: task.id };
      return openAiClient({ caller, models: server.models, fetchMedia: unused, identity, signal });
    },
  });
});
afterAll(async () => {
  server.stop();
  await simulator.stop();
  await rm(folder, { recursive: true });
});

interface Embedded {
  readonly embeddings: readonly (readonly number[])[];
  readonly dimensions: number;
  readonly usage: { readonly prompt_tokens: number };
}

/** One task each, at the same time. */
const together = (inputs: readonly object[], ownerOf: (i: number) => string = () => "owner", signal?: AbortSignal) => {
  calls.length = 0;
  return Promise.all(
    inputs.map((input, i) =>
      runner.execute(input, {
        task: { id: `${i}`, model: "embed", ownerId: ownerOf(i), attempt: 1, metadata: {} },
        signal: (i === 0 && signal) || new AbortController().signal,
        log: silentLog,
        readFile: () => Promise.reject(new Error("no file is read here")),
        onProgress: () => {},
        onDelta: () => {},
        earlierDeltas: [],
        onReset: () => {},
      }),
    ),
  );
};
type Executions = Awaited<ReturnType<typeof together>>;
const outputs = (executions: Executions): readonly Embedded[] =>
  executions.map((execution) => {
    if (!execution.ok) throw new Error(execution.error.message);
    return execution.output as Embedded;
  });

const texts = ["a cat", "a dog", "the sea", "a ship", "a mill"];

test("tasks share a call, and each gets its own vectors in order", async () => {
  const alone = await Promise.all(texts.map(async (input) => outputs(await together([{ input }]))[0]?.embeddings[0]));
  const inputs = [{ input: texts.slice(0, 2) }, { input: "the sea" }, { input: texts.slice(3) }];
  const [first, second, third] = outputs(await together(inputs));
  expect(calls.length).toBe(1);
  const all = [...(first?.embeddings ?? []), ...(second?.embeddings ?? []), ...(third?.embeddings ?? [])];
  expect(all).toEqual(alone.map((vector) => [...(vector ?? [])]));
  expect(first?.dimensions).toBe(all[0]?.length ?? 0);
});

test("the tokens of a call fall to its tasks, none lost", async () => {
  const answers = outputs(await together([{ input: texts }, { input: "x" }, { input: "a long text about mills" }]));
  const shares = answers.map(({ usage }) => usage.prompt_tokens);
  const [whole] = outputs(await together([{ input: [...texts, "x", "a long text about mills"] }]));
  expect(shares.reduce((sum, share) => sum + share, 0)).toBe(whole?.usage.prompt_tokens ?? 0);
});

test("owners, models and lengths are not mixed", async () => {
  await together([{ input: "a" }, { input: "b" }, { input: "c" }, { input: "d" }], (i) => `owner-${i % 2}`);
  expect(calls.map(({ keyId }) => keyId).sort()).toEqual(["owner-0", "owner-1"]);
  await together([{ input: "a" }, { input: "b", dimensions: 8 }, { input: "c", model: "millrace-sim" }]);
  expect(calls.length).toBe(3);
});

test("a text that is refused fails its own task alone", async () => {
  const long = "word ".repeat(200_000);
  const [good, bad, also] = await together([{ input: "a" }, { input: long }, { input: "c" }]);
  expect(good?.ok).toBe(true);
  expect(also?.ok).toBe(true);
  expect(bad).toMatchObject({ ok: false, error: { code: "invalid_input", retryable: false } });
});

test("a task that leaves does not take the others along", async () => {
  const leaving = new AbortController();
  const running = together([{ input: "a" }, { input: "b" }], undefined, leaving.signal);
  leaving.abort();
  const [gone, stays] = await running;
  expect(gone).toMatchObject({ ok: false, error: { code: "aborted" } });
  expect(stays?.ok).toBe(true);
});
