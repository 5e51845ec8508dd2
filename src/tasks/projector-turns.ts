// Keeps the read model in step with the logs, one gateway at a time where several share a PostgreSQL; the others stand by
// and take over within seconds. Called by the projector's thread. Two that write for a moment do no harm: each writes its
// rows and how far it has read in one transaction, and both only move forward (docs/decisions/0020-one-projector.md).
import { type Hold, tryHold } from "../db/exclusive.ts";
import { messageOf } from "../errors.ts";
import { type ProjectOptions, type Projector, projectHere } from "./projector.ts";

/** The name of the right to write the read model. */
export const PROJECTOR = "projector";

const ATTEMPT_EVERY_MS = 500;
const RETRY_MS = 1_000;
/** The last writes of one that has lost its turn; a database that does not answer is not waited for. */
const STOP_MS_MAX = 3_000;

/** Resolves when it follows the logs, or stands by. Throws where the first attempt fails. */
export async function projectInTurns(options: ProjectOptions & { databaseUrl: string | null }): Promise<Projector> {
  const { databaseUrl, log } = options;
  const stopAsked = Promise.withResolvers<void>();
  const caughtUp = Promise.withResolvers<void>();
  let stopped = false;

  const begin = async (): Promise<Turn | null> => {
    const hold = await tryHold(databaseUrl, PROJECTOR);
    if (!hold) return null;
    try {
      const projector = await projectHere(options);
      log.info({}, "this gateway writes the read model");
      return { hold, projector };
    } catch (error) {
      await hold.release();
      throw error;
    }
  };
  const serve = async ({ hold, projector }: Turn): Promise<void> => {
    void projector.caughtUp.then(caughtUp.resolve);
    await Promise.race([hold.lost, stopAsked.promise]);
    if (!stopped) log.warn({}, "the turn to write the read model is lost");
    await Promise.race([projector.stop(), Bun.sleep(STOP_MS_MAX)]);
    await hold.release();
  };
  const run = async (first: Turn | null): Promise<void> => {
    for (let turn = first; !stopped; ) {
      if (turn) await serve(turn);
      else await Promise.race([stopAsked.promise, Bun.sleep(ATTEMPT_EVERY_MS)]);
      if (stopped) return;
      turn = await begin().catch(async (error) => {
        log.debug({ error: messageOf(error) }, "the read model cannot be written yet");
        await Promise.race([stopAsked.promise, Bun.sleep(RETRY_MS)]);
        return null;
      });
    }
  };
  const first = await begin();
  const running = run(first);
  return {
    caughtUp: caughtUp.promise,
    async stop() {
      stopped = true;
      stopAsked.resolve();
      await running;
    },
  };
}

interface Turn {
  readonly hold: Hold;
  readonly projector: Projector;
}
