// The load generator's command line: every flag, its default, and the list that the orchestrator passes on. Flags are
// the only input, so that a run can be repeated by hand against any server with this HTTP surface.
import { parseArgs } from "node:util";
import type { NamedProcesses } from "./processes.ts";

export const phaseNames = ["low", "tight", "closed", "burst", "priority"] as const;
export type PhaseName = (typeof phaseNames)[number];

/** How an end is observed: adaptive polls, a GET that the server holds (`Prefer: wait`), server-sent events, not at all. */
export const waitNames = ["poll", "prefer", "sse", "none"] as const;
export type WaitName = (typeof waitNames)[number];

export interface LoadOptions {
  readonly base: URL;
  readonly name: string;
  readonly key: string;
  readonly model: string;
  readonly input: unknown;
  /** Input of the low-priority backlog: something slow, or there is no backlog. */
  readonly backlogInput: unknown;
  readonly wait: WaitName;
  readonly phases: readonly PhaseName[];
  readonly clients: number;
  readonly lowTasks: number;
  readonly tightTasks: number;
  readonly closedTasks: number;
  readonly burstTasks: number;
  readonly backlogTasks: number;
  readonly highTasks: number;
  readonly warmTasks: number;
  readonly taskTimeoutMs: number;
  /** Processes whose CPU and memory are reported. */
  readonly processes: NamedProcesses;
  /** A file that gets the id of every submitted task, one a line. */
  readonly idsFile: string | null;
}

const flags = {
  base: { type: "string", default: "http://127.0.0.1:8000" },
  name: { type: "string", default: "" },
  key: { type: "string", default: "" },
  model: { type: "string", default: "echo" },
  input: { type: "string", default: '{"text":"hi"}' },
  "backlog-input": { type: "string", default: '{"text":"hi","sleep_ms":5}' },
  wait: { type: "string", default: "poll" },
  phases: { type: "string", default: "low,tight,closed,burst" },
  clients: { type: "string", default: "64" },
  "low-n": { type: "string", default: "200" },
  "tight-n": { type: "string", default: "500" },
  "closed-n": { type: "string", default: "20000" },
  "burst-n": { type: "string", default: "20000" },
  "backlog-n": { type: "string", default: "5000" },
  "high-n": { type: "string", default: "50" },
  "warm-n": { type: "string", default: "200" },
  "task-timeout-ms": { type: "string", default: "120000" },
  pids: { type: "string", default: "" },
  ids: { type: "string", default: "" },
} as const;

/** Throws an Error that names the flag when one is unknown or not valid. */
export function parseLoadOptions(args: readonly string[]): LoadOptions {
  const { values } = parseArgs({ args: [...args], options: flags, strict: true });
  const count = (name: keyof typeof flags): number => {
    const value = Number(values[name]);
    if (!Number.isInteger(value) || value < 0) throw new Error(`--${name} must be a whole number`);
    return value;
  };
  const base = new URL(values.base);
  return {
    base,
    name: values.name || base.host,
    key: values.key,
    model: values.model,
    input: JSON.parse(values.input),
    backlogInput: JSON.parse(values["backlog-input"]),
    wait: oneOf("wait", waitNames, values.wait),
    phases: values.phases.split(",").map((phase) => oneOf("phases", phaseNames, phase)),
    clients: Math.max(1, count("clients")),
    lowTasks: count("low-n"),
    tightTasks: count("tight-n"),
    closedTasks: count("closed-n"),
    burstTasks: count("burst-n"),
    backlogTasks: count("backlog-n"),
    highTasks: count("high-n"),
    warmTasks: count("warm-n"),
    taskTimeoutMs: count("task-timeout-ms"),
    processes: parsePids(values.pids),
    idsFile: values.ids || null,
  };
}

function oneOf<T extends string>(flag: string, choices: readonly T[], value: string): T {
  const found = choices.find((choice) => choice === value);
  if (found === undefined) throw new Error(`--${flag} must be of ${choices.join(", ")}`);
  return found;
}

/** `name=pid,name=pid` */
function parsePids(text: string): NamedProcesses {
  const named: Record<string, number> = {};
  for (const entry of text.split(",").filter((part) => part !== "")) {
    const [name = "", pid = ""] = entry.split("=");
    if (name === "" || !/^\d+$/.test(pid)) throw new Error("--pids must be name=pid,name=pid");
    named[name] = Number(pid);
  }
  return named;
}
