// The whole service as somebody without a GPU starts it: nothing is configured, and a chat is answered, also by a gateway
// and an actor that are started beside it.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { startSecondGateway } from "./second-gateway.ts";
import { type Stack, startStack, until } from "./stack.ts";

let stack: Stack;
beforeAll(async () => {
  stack = await startStack({ settings: { MODELS: "echo" } });
});
let actor: Bun.Subprocess | null = null;
afterAll(async () => {
  actor?.kill("SIGKILL");
  await actor?.exited;
  await stack?.stop();
});

const body = {
  model: "millrace-sim",
  messages: [
    { role: "system", content: "You are Anna, 34. You have had chest pain since Monday." },
    { role: "user", content: "Since when do you have pain?" },
  ],
};

/** The answer of a gateway, once it knows the model and an actor that serves it. */
const chat = (call: Stack["call"]): Promise<unknown> =>
  until("an answer", 10_000, async () => {
    const response = await call("POST", "/v1/chat/completions", body);
    return response.ok ? await response.json() : null;
  });

test("without any setting a chat is answered, by what says that it is a simulator", async () => {
  const answer = {
    system_fingerprint: "millrace-sim-instant",
    choices: [{ message: { content: expect.stringContaining("Monday") } }],
  };
  expect(await chat(stack.call)).toMatchObject(answer);
  const second = await startSecondGateway(stack);
  expect(await chat(second.call)).toMatchObject(answer);
  await second.stop();
});

test("an actor that is started beside it finds the simulator by the data folder", async () => {
  actor = Bun.spawn([process.execPath, join(import.meta.dir, "../src/main.ts"), "actor", "--gpu", "7"], {
    env: { PATH: process.env.PATH ?? "", DATA_DIR: stack.dataDir, MODELS: "chat", LOG_LEVEL: "silent" },
    stdio: ["ignore", "ignore", "inherit"],
  });
  await until("the runner", 20_000, async () => ((await stack.call("GET", "/v1/models/chat")).ok ? true : null));
  const { task_id } = await stack.submit({ model: "chat", input: { messages: body.messages } });
  const { status, result } = await stack.ended(task_id);
  expect([status, JSON.stringify(result)]).toEqual(["SUCCESS", expect.stringContaining("Monday")]);
});
