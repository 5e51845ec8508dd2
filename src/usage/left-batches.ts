// Batches of usage that no gateway took before their actor ended: one a line in a file, in the words of messages.ts, for
// the next actor of the same place, which sends them first. A batch counts once however often it is sent, so the file goes
// only when all have arrived.
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { parseQuestion } from "./messages.ts";
import type { Batch } from "./store.ts";

/** What the actor before left; lines of another form are lost, which is logged. Never throws. */
export function readLeft(path: string, log: Log): Batch[] {
  try {
    const lines = readFileSync(path, "utf8").split("\n").slice(0, -1);
    return lines.flatMap((line) => {
      const batch = parseQuestion(line);
      if (batch?.type === "count") return { id: batch.id, rows: batch.rows, days: [] };
      log.error({}, "token usage that an actor left cannot be read: it is lost");
      return [];
    });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") {
      log.error({ error: messageOf(error) }, "token usage that an actor left cannot be read");
    }
    return [];
  }
}

/** Instead of what stands there; none: the file goes. Without fsync, as all counts. Never throws. */
export function keepLeft(path: string, batches: readonly Batch[], log: Log): void {
  try {
    if (batches.length === 0) return rmSync(path, { force: true });
    const lines = batches.map(({ id, rows }) => `${JSON.stringify({ v: 1, type: "count", id, rows })}\n`);
    writeFileSync(`${path}.new`, lines.join(""));
    renameSync(`${path}.new`, path);
    log.info({ batches: batches.length }, "token usage is kept for the next actor of this place");
  } catch (error) {
    log.error({ error: messageOf(error) }, "token usage cannot be kept: it is lost");
  }
}
