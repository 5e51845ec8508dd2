// The models of one server and a caller for them, without a file and without an actor: for tests of runners
// (millrace/testing). It is made of the parts that an actor uses, so that a test sees what an actor would do.
import { systemClock } from "../clock.ts";
import { AppError } from "../errors.ts";
import { silentLog } from "../log.ts";
import { startDiscovery } from "../models/discovery.ts";
import type { ProviderAccess } from "../models/llm-catalogue.ts";
import type { LlmModels } from "../models/llm-models.ts";
import { parseModelsFile } from "../models/models-file.ts";
import { createRouting } from "../models/routing.ts";
import type { LlmCaller } from "./llm.ts";
import { createLocalCaller } from "./local-caller.ts";

/** A server of a test is up, or will not be; less than what test runners give a test. */
const ANSWER_MS_MAX = 3_000;

export interface OneServer {
  readonly caller: LlmCaller;
  readonly models: LlmModels;
  stop(): void;
}

/** Resolves when the server has named its models. Throws `model_unavailable` where it does not. */
export async function openOneServer(baseUrl: string): Promise<OneServer> {
  const url = new URL(baseUrl);
  if (url.pathname === "/") url.pathname = "/v1";
  const text = JSON.stringify({ providers: { server: { base_url: url.href, discover: true } } });
  const file = parseModelsFile(text, {});
  const provider = (name: string): ProviderAccess => {
    const found = file.providers.get(name);
    if (found?.baseUrl == null) throw new AppError("model_unavailable", "There is no such provider.");
    return { ...found, baseUrl: found.baseUrl };
  };
  const named = Promise.withResolvers<void>();
  const late = setTimeout(() => {
    named.reject(
      new AppError("model_unavailable", `The model server at ${url.href} does not name its models: is it up?`),
    );
  }, ANSWER_MS_MAX);
  const discovery = startDiscovery({
    providers: () => [...file.providers.values()],
    access: provider,
    defaultModel: null,
    onChange: () => named.resolve(),
    log: silentLog,
  });
  try {
    await named.promise;
  } catch (error) {
    discovery.stop();
    throw error;
  } finally {
    clearTimeout(late);
  }
  const actors = () => [{ id: "test", llm: discovery.offers() }];
  const models = createRouting({ file: () => file, actors, defaultModel: null, clock: systemClock, log: silentLog });
  const caller = createLocalCaller({
    models,
    provider,
    gpu: "0",
    actorId: "test",
    clock: systemClock,
    log: silentLog,
  });
  return { caller, models, stop: () => discovery.stop() };
}
