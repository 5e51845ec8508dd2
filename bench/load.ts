// The load generator: submits tasks over HTTP and observes their ends, phase by phase. Started by the orchestrator as a
// process of its own (its CPU must not be the servers'), or by hand against any server. Prints one JSON line.
import type { PhaseName } from "./load-options.ts";
import { parseLoadOptions } from "./load-options.ts";
import { type PhaseFigures, runPhase, warmUp } from "./phases.ts";
import { type NamedProcesses, type ProcessUse, processUse, stolenS } from "./processes.ts";
import { round } from "./statistics.ts";
import { type Counters, countersBetween, TaskClient } from "./task-client.ts";

/** A phase's figures, and what they cost. */
export type PhaseReport = PhaseFigures &
  Omit<Counters, "submitted"> & {
    /** CPU seconds spent in the phase, by process name; the generator's own under `loadgen`. */
    readonly cpu_s: Readonly<Record<string, number>>;
    /** CPU seconds that the hypervisor took from this machine meanwhile. */
    readonly stolen_s: number;
  };

export interface LoadReport {
  readonly name: string;
  readonly wait: string;
  readonly clients: number;
  readonly phases: Readonly<Partial<Record<PhaseName, PhaseReport>>>;
  /** Use of the processes when the last phase had ended. */
  readonly processes: Readonly<Record<string, ProcessUse>>;
  /** Tasks accepted in all, with those of the warm-up. */
  readonly submitted: number;
  readonly error_texts: readonly string[];
}

async function load(args: readonly string[]): Promise<LoadReport> {
  const options = parseLoadOptions(args);
  const client = new TaskClient(options);
  const processes: NamedProcesses = { ...options.processes, loadgen: process.pid };
  if (options.warmTasks > 0) await warmUp(client, options);
  const phases: Partial<Record<PhaseName, PhaseReport>> = {};
  for (const phase of options.phases) {
    const before = { use: processUse(processes), counters: client.counters, stolenS: stolenS() };
    const figures = await runPhase(phase, client, options);
    const after = processUse(processes);
    const cpu_s: Record<string, number> = {};
    for (const [name, use] of Object.entries(after)) {
      cpu_s[name] = round(use.cpu_s - (before.use[name]?.cpu_s ?? 0), 2);
    }
    const stolen_s = round(stolenS() - before.stolenS, 2);
    phases[phase] = { ...figures, ...countersBetween(before.counters, client.counters), cpu_s, stolen_s };
    client.flushIds();
  }
  return {
    name: options.name,
    wait: options.wait,
    clients: options.clients,
    phases,
    processes: processUse(processes),
    submitted: client.counters.submitted,
    error_texts: client.errorTexts,
  };
}

if (import.meta.main) {
  console.log(JSON.stringify(await load(process.argv.slice(2))));
  process.exit(0); // a stream that a server keeps open must not keep the generator
}
