// Keeps the object store as large as it needs to be: a round of both sweeps now and again, in every gateway. Started by
// the gateway command. It decides nothing about an object; the sweeps of tasks and of files do.
import { messageOf } from "./errors.ts";
import type { Log } from "./log.ts";

/** A round asks the store for every name; nothing that waits for it is urgent. */
const ROUND_EVERY_MS = 6 * 3_600_000;
/** After a start, so that gateways that start together do not list the store together. */
const FIRST_ROUND_MS_MAX = 1_800_000;

export type Sweep = (signal: AbortSignal) => Promise<number>;

/** `stop` resolves when the round under way has ended. */
export function startUpkeep(sweeps: readonly Sweep[], random: () => number, log: Log): { stop(): Promise<void> } {
  const end = new AbortController();
  let running: Promise<void> = Promise.resolve();
  const round = async (): Promise<void> => {
    for (const sweep of sweeps) {
      try {
        const deleted = await sweep(end.signal);
        if (deleted > 0) log.info({ objects: deleted }, "objects that nobody needs were deleted");
      } catch (error) {
        log.warn({ error: messageOf(error) }, "the object store is swept later");
      }
    }
  };
  const start = (): void => {
    running = running.then(round).then(() => {
      if (!end.signal.aborted) timer = setTimeout(start, ROUND_EVERY_MS);
    });
  };
  let timer = setTimeout(start, FIRST_ROUND_MS_MAX * random());
  return {
    async stop() {
      end.abort();
      clearTimeout(timer);
      await running;
    },
  };
}
