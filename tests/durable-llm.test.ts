// Language models as durable tasks, through the whole product: what watchers of a chat see when its actor is killed, its
// server breaks off, or its owner cancels, on two gateways. The model server is the simulator, slow enough to be met in
// the middle of an answer.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Simulator, startSimulator } from "../src/sim/simulator.ts";
import { events, names, type ReadEvent, readEvents } from "./event-reader.ts";
import { readExposition } from "./exposition.ts";
import { type SecondGateway, startSecondGateway } from "./second-gateway.ts";
import { type Stack, startStack } from "./stack.ts";

let simulator: Simulator;
let stack: Stack;
let second: SecondGateway;
const cleanup = new AsyncDisposableStack();

/** The same server twice: as the vLLM that it says it is, and as one of which nothing is known. */
const modelsFile = `
providers:
  default: { base_url: "\${LLM_BASE_URL}", discover: true }
  other: { kind: openai, base_url: "\${LLM_BASE_URL}" }
models:
  plain: { variants: [{ provider: other, model: millrace-sim }] }
defaults: { chat: millrace-sim }
`;

beforeAll(async () => {
  simulator = await startSimulator({ profile: "8b-h100" });
  cleanup.defer(() => simulator.stop());
  const folder = await mkdtemp(join(tmpdir(), "millrace models "));
  cleanup.defer(() => rm(folder, { recursive: true }));
  const file = join(folder, "models.yaml");
  await writeFile(file, modelsFile);
  const settings = {
    LLM_BASE_URL: simulator.url,
    MODELS_FILE: file,
    MODELS: "chat,completion,embed,image-generate,image-scoring-vlm,speech,transcribe",
  };
  stack = await startStack({ settings });
  cleanup.defer(() => stack.stop());
  second = await startSecondGateway(stack, settings);
  cleanup.defer(() => second.stop());
}, 60_000);
afterAll(() => cleanup.disposeAsync());

interface Delta {
  readonly content?: string;
  readonly tokens?: number;
  readonly finish_reason?: string;
}
interface Chat {
  readonly message: { readonly content: string };
  readonly finish_reason: string;
  readonly usage: { readonly completion_tokens: number };
}

const story = "a mill turns where the water runs and ".repeat(12);
const conversation = (marker: string, more: object = {}) => ({
  model: "chat",
  input: {
    messages: [{ role: "user", content: `${marker}: ${story}` }],
    extra: { ignore_eos: true },
    max_tokens: 80,
    ...more,
  },
});
const submit = async (marker: string, more: object = {}): Promise<string> =>
  (await stack.submit(conversation(marker, more))).task_id;

/** What a client has who forgets at each reset. */
const deltasOf = (seen: readonly ReadEvent[]): readonly Delta[] =>
  seen
    .slice(names(seen).lastIndexOf("reset") + 1)
    .flatMap(({ event, data }) => (event === "delta" ? [data as Delta] : []));
const textOf = (seen: readonly ReadEvent[]): string =>
  deltasOf(seen)
    .map(({ content }) => content ?? "")
    .join("");
const resultOf = (seen: readonly ReadEvent[]): Chat => seen.at(-1)?.data.result as Chat;

/** The whole stream in pieces of a few events, each from the other gateway. */
async function readInPieces(taskId: string): Promise<ReadEvent[]> {
  const seen: ReadEvent[] = [];
  const isEnd = (event: ReadEvent | undefined): boolean => ["SUCCESS", "FAILURE"].includes(event?.event ?? "");
  for (let piece = 0; !isEnd(seen.at(-1)); piece++) {
    const gateway = piece % 2 === 0 ? stack : { ...stack, url: second.url };
    const from = seen.at(-1)?.id;
    let read = 0;
    for await (const event of events(gateway, taskId, from === undefined ? {} : { lastEventId: from })) {
      seen.push(event);
      if (++read === 3 || isEnd(event)) break;
    }
  }
  return seen;
}

/** Resolves when so many deltas have come. */
const begun = (taskId: string, count = 3): Promise<unknown> => {
  let deltas = 0;
  return readEvents(stack, taskId, { last: ({ event }) => event === "delta" && ++deltas === count });
};

function expectInOrder(seen: readonly ReadEvent[]): void {
  const places = seen.map(({ id }) => id.split(".").map(Number));
  for (const [i, [attempt = 0, n = 0]] of places.entries()) {
    const [lastAttempt = 0, last = -1] = places[i - 1] ?? [];
    expect(attempt > lastAttempt || n > last).toBe(true);
  }
}

describe("a chat as a task", () => {
  test("streams what becomes its message, at most twenty deltas a second", async () => {
    const seen = await readEvents(stack, await submit("plainly"));
    expect(textOf(seen)).toBe(resultOf(seen).message.content);
    expect(resultOf(seen)).toMatchObject({ finish_reason: "length", usage: { completion_tokens: 80 } });
    // 80 tokens of 12 ms.
    const deltas = names(seen).filter((name) => name === "delta").length;
    expect(deltas).toBeGreaterThan(10);
    expect(deltas).toBeLessThan(40);
    expectInOrder(seen);
  });

  test("a killed actor: the next attempt goes on, and nobody gets a token twice", async () => {
    const ids = await Promise.all(["first", "second"].map((marker) => submit(marker)));
    const watched = ids.flatMap((id) => [readEvents(stack, id), readInPieces(id)]);
    await Promise.all(ids.map((id) => begun(id)));
    process.kill(await stack.pidOf("actor-0"), "SIGKILL");
    const streams = await Promise.all(watched);
    for (const seen of streams) {
      expect(textOf(seen)).toBe(resultOf(seen).message.content);
      expect(resultOf(seen).usage.completion_tokens).toBe(80);
      expect(seen.at(-1)?.data.attempt).toBe(2);
      expectInOrder(seen);
    }
    // A process that is killed between counting an event and sending it leaves a hole: that chat would start again, but
    // hardly both.
    expect(streams.filter((seen) => names(seen).includes("reset")).length).toBeLessThanOrEqual(2);
  }, 30_000);

  test("what the server refuses is refused once", async () => {
    const seen = await readEvents(stack, await submit("refused", { max_tokens: 900_000 }));
    expect(names(seen)).not.toContain("RETRY");
    expect(seen.at(-1)?.data.error).toMatchObject({ code: "invalid_input", retryable: false });
  });

  test("a cancel ends the request at the server", async () => {
    const id = await submit("cancelled", { max_tokens: 20_000 });
    await begun(id, 1);
    expect(simulator.inflight()).toBe(1);
    expect((await stack.call("POST", `/v1/tasks/${id}/cancel`)).status).toBe(202);
    expect((await stack.ended(id)).status).toBe("CANCELLED");
    await stack.until("no request", 1_000, async () => (simulator.inflight() === 0 ? true : null));
  });
});

describe("a server that fails", () => {
  /** Three chats side by side, each with its own fault, once. */
  const chats = {
    broken: { fault: "after=20; cut", more: {} },
    forgotten: { fault: "after=10; cut", more: { model: "plain", extra: {} } },
    crowded: { fault: "status=429", more: { max_tokens: 5 } },
  };
  type Name = keyof typeof chats;
  const seenOf = {} as Record<Name, readonly ReadEvent[]>;

  beforeAll(async () => {
    const all = Object.entries(chats) as [Name, (typeof chats)[Name]][];
    const faults = all.map(([content, { fault }]) => ({ match: { content }, fault, times: 1 }));
    await fetch(`${simulator.url}/admin/config`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ faults }),
    });
    const follow = async ([name, { more }]: (typeof all)[number]): Promise<void> => {
      seenOf[name] = await readEvents(stack, await submit(name, more));
    };
    await Promise.all(all.map(follow));
  });

  test("in the middle: the next attempt goes on", () => {
    const seen = seenOf.broken;
    expect(names(seen)).toContain("RETRY");
    expect(names(seen)).not.toContain("reset");
    expect(textOf(seen)).toBe(resultOf(seen).message.content);
    expect(resultOf(seen).usage.completion_tokens).toBe(80);
  });

  test("and cannot go on: watchers are told to forget before it starts again", () => {
    const seen = seenOf.forgotten;
    const order = names(seen).filter((name, i, all) => name !== all[i - 1]);
    expect(order).toEqual(["PENDING", "STARTED", "delta", "RETRY", "STARTED", "reset", "delta", "SUCCESS"]);
    const reset = seen.find(({ event }) => event === "reset");
    expect(reset?.data).toMatchObject({ status: "STARTED", attempt: 2, model: "chat" });
    expect(textOf(seen)).toBe(resultOf(seen).message.content);
    expectInOrder(seen);
  });

  test("as it is full: it is waited for", () => {
    const seen = seenOf.crowded;
    const retry = seen.find(({ event }) => event === "RETRY");
    expect(retry?.data.error).toMatchObject({ code: "model_overloaded", retryable: true });
    expect(seen.at(-1)?.event).toBe("SUCCESS");
  });
});

describe("the other runners", () => {
  const done = async (model: string, input: object): Promise<Readonly<Record<string, unknown>>> => {
    const { task_id } = await stack.submit({ model, input });
    const task = await stack.ended(task_id);
    expect(task).toMatchObject({ status: "SUCCESS", model });
    return { task_id, ...(task.result as object) };
  };
  const fileOf = async ({ task_id }: Readonly<Record<string, unknown>>): Promise<Response> =>
    stack.call("GET", `/v1/tasks/${task_id}/result`);

  test("a text is continued", async () => {
    const { text, usage } = await done("completion", { prompt: "The mill", max_tokens: 8 });
    expect(text).toBeString();
    expect(usage).toMatchObject({ completion_tokens: 8 });
  });

  /** Calls for vectors that the actor has made. */
  const embedCalls = async (): Promise<number> => {
    const { metrics } = stack.log().findLast(({ message }) => message === "actor is ready") ?? {};
    const text = await (await fetch(String(metrics))).text();
    return readExposition(text).sum("ai_requests_total", 'endpoint="embeddings"');
  };

  test("texts of several tasks are embedded, in fewer calls than tasks", async () => {
    const words = ["one", "two", "three", "four", "five", "six", ...Array.from({ length: 26 }, (_, i) => `mill ${i}`)];
    const before = await embedCalls();
    const results = await Promise.all(words.map((input) => done("embed", { input })));
    expect((await embedCalls()) - before).toBeLessThan(words.length / 2);
    const vectors = results.map(({ embeddings }) => JSON.stringify(embeddings));
    expect(new Set(vectors).size).toBe(words.length);
    expect((await done("embed", { input: words })).embeddings).toEqual(vectors.map((text) => JSON.parse(text)[0]));
  });

  test("pictures are drawn and judged", async () => {
    const drawn = await done("image-generate", { prompt: "a mill", size: "64x48" });
    const response = await fileOf(drawn);
    expect(response.headers.get("content-type")).toBe("image/png");
    const image_base64 = Buffer.from(await response.bytes()).toString("base64");
    expect(await done("image-scoring-vlm", { image_base64 })).toMatchObject({ width: 64, height: 48 });
  });

  test("speech is spoken, uploaded and written down", async () => {
    const text = "The mill turns.";
    const spoken = await fileOf(await done("speech", { text }));
    expect(spoken.headers.get("content-type")).toBe("audio/wav");
    const form = new FormData();
    form.append("purpose", "user_data");
    form.append("file", new File([await spoken.bytes()], "said.wav"));
    const headers = { "x-api-key": stack.key };
    const uploaded = await fetch(`${stack.url}/v1/files`, { method: "POST", headers, body: form });
    const { id } = (await uploaded.json()) as { id: string };
    const transcript = await done("transcribe", { file_id: id });
    expect(transcript).toMatchObject({ text });
    const seen = await readEvents(stack, String(transcript.task_id));
    const deltas = seen.filter(({ event }) => event === "delta").map(({ data }) => data as { readonly text: string });
    expect(deltas.map((delta) => delta.text).join("")).toBe(text);
  });
});
