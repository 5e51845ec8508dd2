// Which actor gets a live call, and how long a model server may take: over a real broker, with model servers that are
// silent, endless or out of reach. What becomes of an answer is in live.test.ts.
import { expect, setDefaultTimeout, test } from "bun:test";
import { asAppError } from "../src/errors.ts";
import type { LiveServer } from "../src/live/server.ts";
import { textOf } from "../src/llm/answer-body.ts";
import { codeOf } from "./code-of.ts";
import { contentOf, target } from "./live-calls.ts";
import { liveSuite } from "./live-suite.ts";
import { ending, event, streamOf } from "./model-servers.ts";
import { until } from "./stack.ts";

setDefaultTimeout(20_000);

const live = liveSuite();
const { serve, ask } = live;

/** So many calls at once to servers that say nothing; how many each actor has, when all have arrived. */
async function burst(actors: readonly LiveServer[], count: number, affinity: string): Promise<number[]> {
  const leaving = new AbortController();
  const calls = Array.from({ length: count }, () => ask({ affinity, signal: leaving.signal }));
  const sizes = await until("all calls", 5_000, async () => {
    const now = actors.map(({ size }) => size);
    return now.reduce((sum, size) => sum + size, 0) === count ? now : null;
  });
  leaving.abort(new Error("left"));
  await Promise.allSettled(calls);
  await until("no calls", 5_000, async () => (actors.every(({ size }) => size === 0) ? true : null));
  return sizes;
}

async function twoSilent(): Promise<readonly LiveServer[]> {
  const base = serve(() => new Promise<Response>(() => {}));
  return [await live.actor("a", base), await live.actor("b", base)];
}

test("a burst falls to both in halves: a call counts before it is sent", async () => {
  expect(await burst(await twoSilent(), 40, "")).toEqual([20, 20]);
});

test("calls of one prefix go to one actor, until it has far more to do than the other", async () => {
  const actors = await twoSilent();
  expect((await burst(actors, 20, "a conversation")).sort()).toEqual([0, 20]);
  const [few = 0, many = 0] = (await burst(actors, 100, "a conversation")).sort((a, b) => a - b);
  expect([few, many]).toEqual([18, 82]);
});

test("a server that ends after a role and no word is left for another, and nothing of it is seen", async () => {
  const role = `data: ${JSON.stringify({ id: "bad", choices: [{ index: 0, delta: { role: "assistant" } }] })}\n\n`;
  const asked = { bad: 0, good: 0 };
  live.models.targets = [target({ variant: "bad", perGpu: true })];
  const bad = serve(() => {
    asked.bad++;
    return streamOf({
      start(controller) {
        controller.enqueue(new TextEncoder().encode(role));
        controller.close();
      },
    });
  });
  const good = serve(() => {
    asked.good++;
    return streamOf({
      start(controller) {
        controller.enqueue(event("one"));
        controller.enqueue(ending);
        controller.close();
      },
    });
  });
  await live.actor("bad", bad);
  await live.actor("good", good);
  // Of many prefixes some fall to the bad one.
  for (let i = 0; asked.bad === 0 && i < 50; i++) {
    const text = await textOf((await ask({ affinity: `prefix ${i}` })).body);
    expect([contentOf(text), text.includes('"bad"')]).toEqual(["one", false]);
  }
  expect(asked.bad).toBe(1);
  // What a half-open breaker waits for: a first token, and not an answer's last.
  expect(live.models.begun).toBe(asked.good);
});

test("the whole time of an answer has a limit, though its tokens never stop", async () => {
  const base = serve(() => streamOf({ pull: (controller) => controller.enqueue(event("x")) }));
  await live.actor("a", base, { timeouts: { totalMs: 200 } });
  const answer = await ask();
  const reader = answer.body.getReader();
  const reading = async (): Promise<void> => {
    while (!(await reader.read()).done);
  };
  expect(await codeOf(reading())).toBe("upstream_timeout");
});

test("a server whose port takes no connection is given up after its own limit", async () => {
  const child = Bun.spawn([process.execPath, "-e", LISTENER], { stdout: "pipe", stderr: "ignore" });
  const sockets: Promise<Bun.Socket>[] = [];
  try {
    const { value } = await child.stdout.getReader().read();
    const port = Number(Buffer.from(value ?? []).toString());
    child.kill("SIGSTOP");
    // As many as the kernel takes for a process that does not; the others wait.
    for (let i = 0; i < BACKLOG_MAX; i++) {
      sockets.push(Bun.connect({ hostname: "127.0.0.1", port, socket: { data: () => {} } }));
    }
    await live.actor("a", `http://127.0.0.1:${port}/v1`, { timeouts: { connectMs: 100 } });
    live.models.targets = [target({ perGpu: true })];
    const error = asAppError(await ask().catch((thrown: unknown) => thrown));
    expect([error?.code, error?.message]).toEqual(["model_unavailable", "The model server cannot be reached."]);
  } finally {
    child.kill("SIGKILL");
    await child.exited;
    for (const socket of await Promise.allSettled(sockets)) if (socket.status === "fulfilled") socket.value.terminate();
  }
});

test("nor is a server behind https waited for that takes the connection and never speaks TLS", async () => {
  using listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
  await live.actor("a", `https://127.0.0.1:${listener.port}/v1`, { timeouts: { connectMs: 100 } });
  live.models.targets = [target({ perGpu: true })];
  const error = asAppError(await ask().catch((thrown: unknown) => thrown));
  expect([error?.code, error?.message]).toEqual(["model_unavailable", "The model server cannot be reached."]);
});

const LISTENER = `
const { port } = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
process.stdout.write(String(port));
`;
/** More than Bun's own 512. */
const BACKLOG_MAX = 700;
