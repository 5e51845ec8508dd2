// The hooks that the test files of live calls share: one broker and one gateway's caller a file, its actors and model
// servers gone after each test. Called once, at the top of a file; nothing of it may be used before the first hook.
import { afterAll, afterEach, beforeAll } from "bun:test";
import type { LlmAnswer, LlmRequest } from "../src/llm/llm.ts";
import { type LiveFixture, llmRequest, startLive } from "./live-calls.ts";
import { type ModelServers, modelServers } from "./model-servers.ts";

export interface LiveSuite extends Omit<LiveFixture, "stop">, Pick<ModelServers, "serve"> {
  ask(over?: Partial<LlmRequest>, value?: object): Promise<LlmAnswer>;
}

export function liveSuite(): LiveSuite {
  let live: LiveFixture;
  const servers = modelServers();
  beforeAll(async () => {
    live = await startLive();
  });
  afterEach(async () => {
    await live.reset();
    await servers.stop();
  });
  afterAll(() => live.stop());
  return {
    get broker() {
      return live.broker;
    },
    get caller() {
      return live.caller;
    },
    get models() {
      return live.models;
    },
    get actors() {
      return live.actors;
    },
    actor: (...of) => live.actor(...of),
    reset: () => live.reset(),
    gateway: (options) => live.gateway(options),
    serve: servers.serve,
    ask: (over, value) => live.caller.call(llmRequest(over, value)),
  };
}
