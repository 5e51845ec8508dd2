// Finds and loads the runners of an actor and lends them what they may use. A file that cannot be loaded is reported
// with its name and reason, and the rest goes on.
import { join } from "node:path";
import type { Blobs } from "../blobs/blobs.ts";
import { systemClock } from "../clock.ts";
import type { Config } from "../config.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { fetchInput } from "../net/fetch-input.ts";
import type { RunnerHost } from "../registry/context.ts";
import { readImage } from "../registry/image.ts";
import { loadDefinitions } from "../registry/loader.ts";
import { type LoadedRunner, loadRunner } from "../registry/stages.ts";

export interface HostOptions {
  readonly gpu: string;
  readonly blobs: Blobs;
  readonly openLlm: NonNullable<RunnerHost["openLlm"]>;
  readonly log: Log;
}

/** The loaded runners by name. Never throws for a bad file; an actor without any runner still serves. */
export async function loadHostedRunners(config: Config, options: HostOptions): Promise<Map<string, LoadedRunner>> {
  const { gpu, blobs, openLlm, log } = options;
  const { runners, problems } = await loadDefinitions({
    runnersDir: join(import.meta.dir, "../../runners"),
    pluginsDir: config.pluginsDir,
    models: config.models,
  });
  for (const { file, reason } of problems) log.error({ file, reason }, "runner file left out");
  const fetchFor = (url: string, signal: AbortSignal) =>
    fetchInput(url, { allowHosts: config.fetchAllowHosts, signal });
  const loaded = new Map<string, LoadedRunner>();
  await Promise.all(
    runners.map(async ({ definition, file }) => {
      try {
        const runner = await loadRunner(definition, {
          log: log.child({ model: definition.name }),
          gpu,
          blobs,
          clock: systemClock,
          fetchInput: fetchFor,
          openLlm,
          readImage: (input, { signal, readFile }) =>
            readImage(input, { fetch: (url) => fetchFor(url, signal), readFile }),
        });
        loaded.set(definition.name, runner);
      } catch (error) {
        log.error({ file, model: definition.name, reason: messageOf(error) }, "runner left out");
      }
    }),
  );
  return loaded;
}
