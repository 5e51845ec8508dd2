// Usage on its way to where it is kept: entries are summed up in memory and sent about once a second as a batch, again
// and again under the same id until it has arrived. Gateways send to the database, actors to a gateway. What is lost with
// a killed process is the second that it had not sent.
import type { Clock } from "../clock.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import type { DayChange } from "./leases.ts";
import type { UsageEntry } from "./ledger.ts";
import { rowsMax } from "./messages.ts";
import { type Batch, HOUR_MS, type UsageRow } from "./store.ts";

export interface Batches {
  /** Never throws. */
  record(entry: UsageEntry): void;
  /** Sends what is there. Resolves when that was tried once; never throws. */
  flush(): Promise<void>;
  /** Sends what is there, tried once; resolves to what did not arrive. Nothing is to be recorded afterwards. */
  stop(): Promise<readonly Batch[]>;
}

export interface BatchesOptions {
  readonly send: (batch: Batch) => Promise<void>;
  /** To be sent first: what a process before could not send. */
  readonly left?: readonly Batch[];
  /** Changes of days that go with a batch; asked when one is made. */
  readonly days?: () => readonly DayChange[];
  readonly clock: Clock;
  readonly log: Log;
}

/** What a killed process loses. */
const EVERY_MS = 1_000;
/** The same key, hour, model and provider are one row; beyond it (a database that is away for long) calls are not counted. */
const ROWS_MAX = 50_000;

type Sum = { -readonly [Field in keyof UsageRow]: UsageRow[Field] };

export function createBatches({ send, left = [], days, clock, log }: BatchesOptions): Batches {
  let sums = new Map<string, Sum>();
  let unsent: Batch[] = [...left];
  let sending: Promise<void> | null = null;
  let failed = false;
  let lost = 0;

  const seal = (): void => {
    const changes = days?.() ?? [];
    const rows = [...sums.values()];
    sums = new Map();
    for (let from = 0; from < rows.length || (from === 0 && changes.length > 0); from += rowsMax) {
      const part = rows.slice(from, from + rowsMax);
      unsent.push({ id: crypto.randomUUID(), rows: part, days: from === 0 ? changes : [] });
    }
  };
  const sendUnsent = async (): Promise<void> => {
    for (let batch = unsent[0]; batch; batch = unsent[0]) {
      await send(batch);
      unsent = unsent.slice(1);
    }
  };
  const sendAll = async (): Promise<void> => {
    try {
      await sendUnsent();
      seal(); // not before: while nothing arrives one batch waits, and not one a second
      await sendUnsent();
      if (failed) log.info({ lost_calls: lost }, "token usage is written again");
      failed = false;
      lost = 0;
    } catch (error) {
      if (!failed) log.error({ error: messageOf(error) }, "token usage cannot be written: it waits in memory");
      failed = true;
    }
  };
  const sendNow = (): Promise<void> => {
    sending ??= sendAll().finally(() => {
      sending = null;
    });
    return sending;
  };
  const flush = async (): Promise<void> => {
    await sending; // it may have begun before the last entry
    await sendNow();
  };
  const timer = setInterval(() => void sendNow(), EVERY_MS);

  return {
    record(entry) {
      const nowMs = clock.now();
      const hourMs = nowMs - (nowMs % HOUR_MS);
      const key = `${entry.keyId}\n${hourMs}\n${entry.model}\n${entry.provider}`;
      let sum = sums.get(key);
      if (!sum) {
        if (sums.size >= ROWS_MAX) {
          lost++;
          return;
        }
        const { keyId, model, provider } = entry;
        const zeros = { requests: 0, promptTokens: 0, completionTokens: 0, cachedTokens: 0 };
        sum = { keyId, hourMs, model, provider, ...zeros };
        sums.set(key, sum);
      }
      sum.requests++;
      sum.promptTokens += entry.promptTokens;
      sum.completionTokens += entry.completionTokens;
      sum.cachedTokens += entry.cachedTokens;
    },
    flush,
    async stop() {
      clearInterval(timer);
      await flush();
      if (sums.size > 0) seal();
      return unsent;
    },
  };
}
