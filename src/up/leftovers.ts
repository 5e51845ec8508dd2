// Remembers which processes a supervisor started, in `<DATA_DIR>/run/<name>.pid`, so that the next one can make sure
// that none of them is left when its own supervisor was killed. It must never signal a process that only has an old
// pid: each record carries the time its process began.
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Log } from "../log.ts";

interface ProcessRecord {
  readonly pid: number;
  readonly began: string;
}

/** Processes that lost their supervisor end by themselves within milliseconds; after this they are killed. */
const LEAVE_MS_MAX = 5_000;
const POLL_MS = 5;

export interface ProcessRecords {
  /** Absolute folder of the records. */
  readonly folder: string;
  remember(name: string, pid: number): Promise<void>;
  forget(name: string): Promise<void>;
}

export function processRecords(dataDir: string): ProcessRecords {
  const folder = join(dataDir, "run");
  return {
    folder,
    async remember(name, pid) {
      const began = await beganAt(pid);
      if (began === null) return; // it is gone already
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await writeFile(join(folder, `${name}.pid`), JSON.stringify({ pid, began } satisfies ProcessRecord));
    },
    forget: (name) => rm(join(folder, `${name}.pid`), { force: true }),
  };
}

/** Ends every recorded process that still lives, and resolves when all are gone. Only for the holder of the lock. */
export async function endLeftovers(records: ProcessRecords, log: Log): Promise<void> {
  const names = await readdir(records.folder).catch(() => []);
  const ends = names
    .filter((name) => name.endsWith(".pid"))
    .map(async (file) => {
      const name = file.slice(0, -".pid".length);
      const record = parse(await readFile(join(records.folder, file), "utf8"));
      if (record && (await isAlive(record))) {
        log.warn({ process: name, process_pid: record.pid }, "ending a process that an earlier supervisor left");
        await end(record);
      }
      await records.forget(name);
    });
  await Promise.all(ends);
}

async function end(record: ProcessRecord): Promise<void> {
  send(record.pid, "SIGTERM");
  const deadline = performance.now() + LEAVE_MS_MAX;
  while (await isAlive(record)) {
    if (performance.now() > deadline) send(record.pid, "SIGKILL");
    await Bun.sleep(POLL_MS);
  }
}

function send(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

const isAlive = async (record: ProcessRecord): Promise<boolean> => (await beganAt(record.pid)) === record.began;

/** When a living process began, in a form that no other process ever has; null when there is none (or a zombie). */
async function beganAt(pid: number): Promise<string | null> {
  if (process.platform !== "linux") {
    const listed = Bun.spawnSync(["ps", "-o", "stat=,lstart=", "-p", String(pid)])
      .stdout.toString()
      .trim();
    return listed === "" || listed.startsWith("Z") ? null : listed.replace(/^\S+\s+/, "");
  }
  const line = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  // After the name in brackets, which may hold anything: state is field 3, the start in ticks since boot field 22.
  const fields = line.slice(line.lastIndexOf(")") + 2).split(" ");
  const ticks = fields[19];
  if (ticks === undefined || fields[0] === "Z") return null;
  return `${(await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim()}:${ticks}`;
}

function parse(text: string): ProcessRecord | null {
  try {
    const { pid, began } = JSON.parse(text) as Partial<ProcessRecord>;
    return Number.isInteger(pid) && Number(pid) > 1 && typeof began === "string" ? { pid: Number(pid), began } : null;
  } catch {
    return null; // cut off while it was written
  }
}
