// A started system, and the load generator run against it as a process of its own: what every benchmark does in the
// end. Knows nothing of how the system was started.
import { join } from "node:path";
import type { LoadReport } from "./load.ts";
import type { NamedProcesses } from "./processes.ts";

export interface Running {
  readonly base: string;
  /** Empty where the system takes no key. */
  readonly key: string;
  /** The name under which its no-op runs. */
  readonly model: string;
  readonly processes: NamedProcesses;
  /** From the start of the command to a good answer of its readiness check; null where it has none. */
  readonly readyMs: number | null;
}

/** The longest that one load may take; the slowest peer needs about 100 s. */
const LOAD_MS_MAX = 300_000;

/** Runs load.ts with `flags` (see load-options.ts). Throws when it fails or takes too long. */
export async function generateLoad(running: Running, folder: string, flags: readonly string[]): Promise<LoadReport> {
  const pids = Object.entries(running.processes).map(([name, pid]) => `${name}=${pid}`);
  const place = ["--base", running.base, "--key", running.key, "--model", running.model, "--pids", pids.join(",")];
  const generator = Bun.spawn([process.execPath, join(import.meta.dir, "load.ts"), ...place, ...flags], {
    cwd: folder,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
    timeout: LOAD_MS_MAX,
    killSignal: "SIGKILL",
  });
  const output = await generator.stdout.text();
  if ((await generator.exited) !== 0) throw new Error(`the load generator ended with ${generator.exitCode}`);
  return JSON.parse(output) as LoadReport; // written by load.ts of this very checkout
}
