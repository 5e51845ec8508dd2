// `make demo`: starts everything with `up`, enlarges a photograph, scores both pictures, streams an answer of a language
// model, prints what happened when, and stops again. Speaks to the gateway as any client would. Leaves the results in
// DATA_DIR and no process behind; exits 0 only when the enlarged picture has exactly twice the size, the answer is whole
// and everything ended cleanly.
import { readFile } from "node:fs/promises";
import { join, relative } from "node:path";
import sharp from "sharp";
import { loadConfig } from "../src/config.ts";
import { messageOf } from "../src/errors.ts";

const root = join(import.meta.dir, "..");
const PICTURE = "examples/cat.jpg";
/** A step that takes longer hangs. */
const STEP_MS_MAX = 60_000;

interface Task {
  readonly task_id: string;
  readonly status: string;
  readonly timing: Readonly<Record<string, number>> | null;
  readonly result?: Readonly<Record<string, unknown>> & { readonly s3_key?: string; readonly size?: number[] };
  readonly error?: { readonly code: string; readonly message: string };
}

interface Chunk {
  readonly error?: { readonly message: string };
  readonly model: string;
  readonly system_fingerprint?: string | null;
  readonly choices: readonly {
    readonly delta: { readonly content?: string | null };
    readonly finish_reason: string | null;
  }[];
  readonly usage?: { readonly completion_tokens: number } | null;
}

const say = (line = ""): void => {
  process.stdout.write(`${line}\n`);
};
const check: (fact: unknown, problem: string) => asserts fact = (fact, problem) => {
  if (!fact) throw new Error(problem);
};

/** A client of the gateway. */
class Client {
  readonly #url: string;
  readonly #key: string;
  constructor(url: string, key: string) {
    this.#url = url;
    this.#key = key;
  }

  async call(path: string, init: RequestInit = {}): Promise<Response> {
    const headers = { ...(init.headers as Record<string, string>), "x-api-key": this.#key };
    const signal = AbortSignal.timeout(STEP_MS_MAX);
    const response = await fetch(this.#url + path, { ...init, headers, signal });
    if (!response.ok)
      throw new Error(`${init.method ?? "GET"} ${path} answered ${response.status}: ${await response.text()}`);
    return response;
  }

  post(path: string, body: object, headers: Readonly<Record<string, string>> = {}): Promise<Response> {
    const all = { "content-type": "application/json", ...headers };
    return this.call(path, { method: "POST", headers: all, body: JSON.stringify(body) });
  }

  async submit(model: string, picture: Uint8Array, wait = ""): Promise<Task> {
    const input = { image_base64: Buffer.from(picture).toString("base64") };
    return (await (await this.post("/v1/tasks", { model, input }, wait ? { prefer: wait } : {})).json()) as Task;
  }

  /** The task's events, until the one that ends it. */
  async *events(taskId: string): AsyncGenerator<{ event: string; data: Record<string, unknown> }> {
    for await (const { event, data } of serverSentEvents(await this.call(`/v1/tasks/${taskId}/events`))) {
      yield { event, data: JSON.parse(data) as Record<string, unknown> };
    }
  }

  /** The chunks of an answer by the default model. */
  async *chat(body: object): AsyncGenerator<Chunk> {
    const response = await this.post("/v1/chat/completions", {
      ...body,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const { data } of serverSentEvents(response)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data) as Chunk;
      check(!chunk.error, `the answer broke off: ${chunk.error?.message}`);
      yield chunk;
    }
  }
}

async function* serverSentEvents(response: Response): AsyncGenerator<{ event: string; data: string }> {
  let text = "";
  for await (const chunk of response.body?.pipeThrough(new TextDecoderStream() as never) ?? []) {
    text += chunk;
    const blocks = text.split("\n\n");
    text = blocks.pop() ?? "";
    for (const block of blocks) {
      const event = /^event: (.*)$/m.exec(block)?.[1] ?? "";
      const data = /^data: (.*)$/m.exec(block)?.[1];
      if (data) yield { event, data };
    }
  }
}

function succeeded(task: Task): Task & { readonly result: NonNullable<Task["result"]> } {
  const { status, error, result } = task;
  if (status !== "SUCCESS" || !result) throw new Error(`the task ended as ${status}: ${error?.message ?? "no result"}`);
  return { ...task, result };
}

const stages = (timing: Task["timing"]): string =>
  Object.entries(timing ?? {})
    .map(([name, ms]) => `${name.replace(/_ms$/, "")} ${ms.toFixed(1)}`)
    .join(", ");

/** Enlarges the picture and prints the task's life; returns the enlarged one. */
async function enlarge(client: Client, url: string, picture: Uint8Array, dataDir: string): Promise<Uint8Array> {
  const original = await sharp(picture).metadata();
  say(`superres-x2 on ${PICTURE} (${original.width} x ${original.height})`);
  const begun = performance.now();
  const at = (): string => `  ${`+${Math.round(performance.now() - begun)} ms`.padEnd(10)}`;
  const { task_id: id, status } = await client.submit("superres-x2", picture);
  say(`${at()}${status.padEnd(10)}accepted as ${id}`);
  for await (const { event, data } of client.events(id)) {
    if (event === "PENDING") continue;
    const note = event === "progress" ? `${Math.round(Number(data.fraction) * 100)}% ${data.message ?? ""}` : "";
    say(`${at()}${event.padEnd(10)}${event === "SUCCESS" ? "" : note}`.trimEnd());
  }
  const task = succeeded((await (await client.call(`/v1/tasks/${id}`)).json()) as Task);
  say(`  stages    ${stages(task.timing)} ms`);

  const enlarged = new Uint8Array(await (await client.call(`/v1/tasks/${id}/result`)).arrayBuffer());
  const found = await sharp(enlarged).metadata();
  check(
    found.width === original.width * 2 && found.height === original.height * 2,
    `the result is ${found.width} x ${found.height}, not twice ${original.width} x ${original.height}`,
  );
  say(`  result    ${found.width} x ${found.height}, exactly twice the size`);
  const key = task.result.s3_key ?? "";
  const files = [...new Bun.Glob(`blobs/*/${key.replaceAll("/", "+")}`).scanSync({ cwd: dataDir })];
  say(`            ${files[0] === undefined ? key : relative(process.cwd(), join(dataDir, files[0]))}`);
  say(`            ${url}/v1/tasks/${id}/result`);
  return enlarged;
}

async function score(client: Client, pictures: Readonly<Record<string, Uint8Array>>): Promise<void> {
  say("\nimage-scoring, 0 to 100");
  const names = Object.keys(pictures);
  const tasks = await Promise.all(
    Object.values(pictures).map((picture) => client.submit("image-scoring", picture, "wait=60")),
  );
  const results = tasks.map((task) => succeeded(task).result);
  say(`  ${"".padEnd(16)}${names.map((name) => name.padStart(10)).join("")}`);
  for (const measure of Object.keys(results[0] ?? {})) {
    const values = results.map((result) => String(result[measure]).padStart(10));
    say(`  ${measure.padEnd(16)}${values.join("")}`);
  }
  const scores = results.map((result) => Number(result.score));
  check(
    scores.every((value) => value >= 0 && value <= 100),
    `a score is not between 0 and 100: ${scores.join(", ")}`,
  );
}

/** Asks the default model and prints its answer as it comes. */
async function chat(client: Client): Promise<void> {
  const facts = "A millrace is the channel of running water that drives the wheel of a mill. It is also called a leat.";
  const question = "What is a millrace?";
  const messages = [
    { role: "system", content: facts },
    { role: "user", content: question },
  ];
  say("\nchat, streamed from /v1/chat/completions");
  const { data } = (await (await client.call("/v1/models")).json()) as { data: { millrace: { kind: string } }[] };
  if (!data.some(({ millrace }) => millrace.kind === "llm")) return say("  left out: there is no model server");
  say(`  question  ${question}`);
  process.stdout.write("  answer    ");
  const begun = performance.now();
  const sinceMs = (): string => (performance.now() - begun).toFixed(0);
  let [firstMs, tokens, end, from] = ["", 0, "", ""];
  for await (const { choices, usage, model, system_fingerprint } of client.chat({ messages })) {
    const [choice] = choices;
    const text = choice?.delta.content ?? "";
    if (text !== "") firstMs ||= sinceMs();
    process.stdout.write(text);
    end ||= choice?.finish_reason ?? "";
    tokens = usage?.completion_tokens ?? tokens;
    const profile = /^millrace-sim-(.+)/.exec(system_fingerprint ?? "")?.[1];
    from = profile ? `${model}, simulated (${profile})` : model;
  }
  say(`\n  model     ${from}`);
  say(`  timing    first token after ${firstMs} ms, ${tokens} tokens in ${sinceMs()} ms`);
  check(firstMs !== "" && end !== "", "the answer is not whole");
}

/** The port to use: PORT where it is set, else 8000, else any free one: somebody may have `make dev` running. */
function freePort(): string {
  const wanted = process.env.PORT;
  if (wanted !== undefined) return wanted;
  try {
    Bun.listen({ hostname: "127.0.0.1", port: 8000, socket: { data: () => {} } }).stop(true);
    return "8000";
  } catch {
    return "0";
  }
}

/** The gateway's address, once `up` has printed it; null when it ended instead (it has said why). */
async function readyUrl(stdout: ReadableStream<Uint8Array>): Promise<string | null> {
  let text = "";
  for await (const chunk of stdout.values({ preventCancel: true })) {
    text += Buffer.from(chunk).toString();
    const url = /^ {2}API +(\S+)$/m.exec(text)?.[1];
    if (url) return url;
  }
  return null;
}

async function demo(): Promise<void> {
  const port = freePort();
  const env = { LOG_LEVEL: "warn", SIM_PROFILE: "8b-h100", ...process.env, PORT: port };
  const config = loadConfig(env);
  const key = config.apiKeys[0]?.secret ?? "";
  const picture = await readFile(join(root, PICTURE));
  const begun = performance.now();
  say(`starting millrace, data in ${relative(process.cwd(), config.dataDir) || "."}`);
  const up = Bun.spawn([process.execPath, join(root, "src/main.ts"), "up"], {
    env,
    stdio: ["ignore", "pipe", "inherit"],
    detached: true, // Ctrl-C reaches the demo, which stops it
  });
  const stop = (): void => up.kill("SIGTERM");
  for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, stop);
  const hanging = setTimeout(stop, 3 * STEP_MS_MAX);
  try {
    const url = await readyUrl(up.stdout);
    if (!url) throw new Error("millrace did not start");
    say(`ready in ${((performance.now() - begun) / 1_000).toFixed(2)} s at ${url}\n`);
    const client = new Client(url, key);
    const enlarged = await enlarge(client, url, picture, config.dataDir);
    await score(client, { original: picture, enlarged });
    await chat(client);
  } finally {
    stop();
    await up.exited;
    clearTimeout(hanging);
  }
  check(up.exitCode === 0, `millrace ended with ${up.signalCode ?? `exit code ${up.exitCode}`}`);
  say("\nstopped cleanly; `make dev` keeps it running");
}

try {
  await demo();
  process.exit(0);
} catch (error) {
  process.stderr.write(`demo: ${messageOf(error)}\n`);
  process.exit(1);
}
