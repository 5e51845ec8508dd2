// Deletes the objects of tasks that nobody can reach any more: inputs and results of tasks whose history is over, and
// what attempts left that died or lost. An object is only looked at a day after it was stored, so that none is deleted
// while its task is on its way. Runs in every gateway; doing it twice does no harm.
import type { SQL } from "bun";
import type { Blobs } from "../blobs/blobs.ts";
import type { Bus } from "../bus/connection.ts";
import type { Clock } from "../clock.ts";
import { isTaskId } from "../ids.ts";
import { readJob } from "./read-job.ts";
import { type ObjectOwner, objectOwners } from "./store.ts";

export interface StoreSweepOptions {
  readonly bus: Bus;
  readonly sql: SQL;
  readonly blobs: Blobs;
  readonly partitions: number;
  readonly clock: Clock;
}

/** Longer than any attempt, so that no object of a running one is looked at. */
const YOUNG_MS = 25 * 3_600_000;
const BATCH = 500;
const READ_MS_MAX = 5_000;
const FOLDERS = ["inputs/", "results/"] as const;

/** Resolves to the number of objects deleted. Throws `storage_unavailable`, `broker_unavailable`; what is left waits. */
export async function sweepStore(options: StoreSweepOptions, signal: AbortSignal): Promise<number> {
  let deleted = 0;
  for (const folder of FOLDERS) {
    let batch: string[] = [];
    for await (const { key, storedAtMs } of options.blobs.list(folder)) {
      if (signal.aborted) return deleted;
      if (options.clock.now() - storedAtMs < YOUNG_MS) continue;
      batch.push(key);
      if (batch.length < BATCH) continue;
      deleted += await sweepBatch(options, batch);
      batch = [];
    }
    deleted += await sweepBatch(options, batch);
  }
  return deleted;
}

async function sweepBatch(options: StoreSweepOptions, keys: readonly string[]): Promise<number> {
  const { sql, blobs } = options;
  const taskIds = [...new Set(keys.map(taskIdOf).filter((id) => id !== null))];
  const owners = await objectOwners(sql, taskIds);
  let deleted = 0;
  for (const key of keys) {
    const taskId = taskIdOf(key);
    if (taskId === null) continue; // not one of ours
    const owner = owners.get(taskId);
    const needed = owner ? isNeeded(key, owner) : await isInLog(options, taskId);
    if (needed) continue;
    await blobs.delete(key);
    deleted++;
  }
  return deleted;
}

/** `results/<task id>-<fence>.png`, `inputs/<task id>-<nonce>.json`. */
function taskIdOf(key: string): string | null {
  const id = /^\w+\/([0-9a-z]{26})-/.exec(key)?.[1] ?? "";
  return isTaskId(id) ? id : null;
}

/** An input is needed while the task can be repeated from its log, a result while the end of its task names it. */
function isNeeded(key: string, { data, trimmed }: ObjectOwner): boolean {
  if (data === null) return true;
  return key.startsWith("inputs/") ? !trimmed : data.includes(`"${key}"`);
}

/** A task without a row may be one that the read model has not heard of yet, or has been told to forget. */
const isInLog = async ({ bus, partitions }: StoreSweepOptions, taskId: string): Promise<boolean> =>
  (await readJob(bus, partitions, taskId, READ_MS_MAX)) !== null;
