// The ledger of an actor: what its runners' calls used is sent to a gateway, again and again until one has counted it,
// and a key that has used up its day is refused. Opened by the actor's composition root. It never holds up a call for a
// gateway that is away: tasks go on without gateways.
import type { Bus } from "../bus/connection.ts";
import { subjects } from "../bus/subjects.ts";
import type { Clock } from "../clock.ts";
import { AppError } from "../errors.ts";
import type { Log } from "../log.ts";
import { createBatches } from "./batches.ts";
import type { Ledger } from "./ledger.ts";
import { keepLeft, readLeft } from "./left-batches.ts";
import { parseAnswer, type UsageAnswer, type UsageQuestion } from "./messages.ts";

export interface RemoteLedgerOptions {
  readonly bus: Pick<Bus, "request">;
  /** The file of what no gateway took before the actor ended. */
  readonly leftPath: string;
  readonly clock: Clock;
  readonly log: Log;
}

export interface RemoteLedger extends Ledger {
  /** Sends what is there, tried once, and keeps what did not arrive. The bus must still be open. */
  stop(): Promise<void>;
}

/** A gateway writes to its database before it answers. */
const COUNT_MS_MAX = 5_000;
/** A call waits no longer for a gateway's word. */
const ADMIT_MS_MAX = 500;
/** How long a gateway's word is good. */
const ADMITTED_MS = 1_000;
/** Keys in memory; they are forgotten together. */
const KEYS_HELD_MAX = 10_000;

interface Word {
  readonly untilMs: number;
  readonly refusal: AppError | null;
}

/**
 * `reserve` reserves nothing (a task's calls are charged when they have ended), so that a key may exceed its quota by
 * what its tasks use within two seconds, and by their calls under way.
 */
export function openRemoteLedger({ bus, leftPath, clock, log }: RemoteLedgerOptions): RemoteLedger {
  const words = new Map<string, Word>();
  const asking = new Map<string, Promise<Word>>();
  const ask = async (question: UsageQuestion, timeoutMs: number): Promise<UsageAnswer> =>
    parseAnswer((await bus.request(subjects.usage, JSON.stringify(question), { timeoutMs })).text());
  const left = readLeft(leftPath, log);
  const leftIds = new Set(left.map(({ id }) => id));
  const batches = createBatches({
    async send({ id, rows }) {
      const { type } = await ask({ v: 1, type: "count", id, rows }, COUNT_MS_MAX);
      if (type === "unknown") log.error({ rows: rows.length }, "no gateway understands this token usage: it is lost");
      else if (type !== "counted") throw new AppError("database_unavailable", `a gateway answered ${type}`);
      // At once: gateways know for a day which batches they have counted, and an actor may run for longer.
      if (leftIds.delete(id) && leftIds.size === 0) keepLeft(leftPath, [], log);
    },
    left,
    clock,
    log,
  });
  const heed = ({ refusal }: Word): null => {
    if (refusal) throw refusal;
    return null;
  };
  const askFor = async (keyId: string): Promise<Word> => {
    let refusal: AppError | null = null;
    try {
      const answer = await ask({ v: 1, type: "admit", keyId }, ADMIT_MS_MAX);
      if (answer.type === "refused") refusal = new AppError("insufficient_quota", answer.message);
    } catch {
      // No gateway now: the call goes on, and is charged when there is one.
    }
    if (words.size >= KEYS_HELD_MAX) words.clear();
    const word = { untilMs: clock.monotonicMs() + ADMITTED_MS, refusal };
    words.set(keyId, word);
    asking.delete(keyId);
    return word;
  };
  const admit = async (keyId: string): Promise<null> => {
    const word = asking.get(keyId) ?? askFor(keyId);
    asking.set(keyId, word);
    return heed(await word);
  };
  return {
    reserve(keyId) {
      const word = words.get(keyId);
      return word && word.untilMs > clock.monotonicMs() ? heed(word) : admit(keyId);
    },
    record: batches.record,
    async stop() {
      keepLeft(leftPath, await batches.stop(), log);
    },
  };
}
