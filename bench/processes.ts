// What processes cost, read from /proc (Linux only): CPU seconds and memory of named processes with their descendants,
// the machine's stolen time, and who the children of a supervisor are. Called between phases, never during one.
import { readdirSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { round } from "./statistics.ts";

export interface ProcessUse {
  /** User and system time since the process began, seconds. */
  readonly cpu_s: number;
  readonly rss_mb: number;
  /** Resident memory with shared pages divided among those that share them. */
  readonly pss_mb: number;
  readonly processes: number;
}

/** Name → pid. */
export type NamedProcesses = Readonly<Record<string, number>>;

/** Kernel clock ticks a second (USER_HZ): 100 on every Linux that Bun runs on. */
const TICKS_PER_S = 100;

/** The use of each named process with its descendants, except those that are named themselves. */
export function processUse(named: NamedProcesses): Record<string, ProcessUse> {
  const children = childrenByParent();
  const roots = new Set(Object.values(named));
  const use: Record<string, ProcessUse> = {};
  for (const [name, root] of Object.entries(named)) {
    let [cpuS, rssKb, pssKb, processes] = [0, 0, 0, 0];
    for (const pid of family(root, children, roots)) {
      const stat = statFields(pid);
      const memory = readText(`/proc/${pid}/smaps_rollup`);
      if (stat === null || memory === null) continue; // it has just ended
      cpuS += (Number(stat[11]) + Number(stat[12])) / TICKS_PER_S;
      rssKb += Number(/^Rss: +(\d+)/m.exec(memory)?.[1] ?? 0);
      pssKb += Number(/^Pss: +(\d+)/m.exec(memory)?.[1] ?? 0);
      processes++;
    }
    const mb = (kb: number): number => Math.round(kb / 1024);
    use[name] = { cpu_s: round(cpuS, 2), rss_mb: mb(rssKb), pss_mb: mb(pssKb), processes };
  }
  return use;
}

/** Seconds of CPU that the hypervisor gave to others since boot, over all cores: noise to know of, not ours. */
export function stolenS(): number {
  const fields = (readText("/proc/stat") ?? "").split("\n", 1)[0]?.split(/ +/) ?? [];
  return Number(fields[8] ?? 0) / TICKS_PER_S;
}

/** `up` (which is `root`) and every process below it, named by what they are. Shells count as part of `up`. */
export function describeFamily(root: number): Record<string, number> {
  const named: Record<string, number> = { up: root };
  for (const pid of family(root, childrenByParent(), new Set([root]))) {
    if (pid === root) continue;
    const commandLine = (readText(`/proc/${pid}/cmdline`) ?? "").split("\0").filter((part) => part !== "");
    const name = processName(commandLine, pid);
    if (name !== null) named[name] = pid;
  }
  return named;
}

/** What a process of the stack is, by its command line: `nats`, `gateway`, `actor-0`, else its program and pid. */
export function processName(commandLine: readonly string[], pid: number): string | null {
  const program = basename(commandLine[0] ?? "");
  if (program === "" || program === "sh") return null;
  if (program.startsWith("nats-server")) return "nats";
  const command = commandLine.slice(1).find((part) => ["gateway", "actor"].includes(part));
  if (command === undefined) return `${program}-${pid}`;
  const gpu = commandLine.indexOf("--gpu");
  return command === "actor" ? `actor-${(gpu < 0 ? null : commandLine[gpu + 1]) ?? pid}` : command;
}

export const isAlive = (pid: number): boolean => {
  const stat = statFields(pid);
  return stat !== null && stat[0] !== "Z";
};

function family(root: number, children: ReadonlyMap<number, number[]>, roots: ReadonlySet<number>): number[] {
  const found: number[] = [];
  for (const queue = [root]; queue.length > 0; ) {
    const pid = queue.pop();
    if (pid === undefined) break;
    found.push(pid);
    queue.push(...(children.get(pid) ?? []).filter((child) => !roots.has(child)));
  }
  return found;
}

function childrenByParent(): Map<number, number[]> {
  const children = new Map<number, number[]>();
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    const parent = Number.isInteger(pid) ? Number(statFields(pid)?.[1]) : Number.NaN;
    if (Number.isInteger(parent)) children.set(parent, [...(children.get(parent) ?? []), pid]);
  }
  return children;
}

/** The fields of /proc/PID/stat after the program's name: state, parent, … user ticks at 11, system ticks at 12. */
function statFields(pid: number): string[] | null {
  const text = readText(`/proc/${pid}/stat`);
  return text === null ? null : text.slice(text.lastIndexOf(")") + 2).split(" ");
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null; // processes end while we look
  }
}
