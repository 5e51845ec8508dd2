// Gathers the items of several tasks for one call of a runner's `inferBatch`. One is made by stages.ts for each loaded
// runner that batches; it never mixes answers up, and a task that leaves does not take its neighbours along.
//
//   add ──► waiting ── max items, or waitMs after the first ──► running ── answers ──► resolved
//              │ abort                                            │ abort: leaves while others stay
//              └──► rejected ◄────────────────────────────────────┘
//
// One batch runs at a time, as a GPU does one thing at a time; meanwhile items gather, and start when it has ended.
import { AppError } from "../errors.ts";

export interface Batcher<Item, Context extends { readonly signal: AbortSignal }, Answer> {
  /** The answer for `item`. Rejects with the batch's error, or with the signal's reason once the item has left. */
  add(item: Item, context: Context): Promise<Answer>;
}

export interface BatchLimits {
  readonly max: number;
  readonly waitMs: number;
}

type Run<Item, Context, Answer> = (
  items: readonly Item[],
  contexts: readonly Context[],
) => readonly Answer[] | Promise<readonly Answer[]>;

interface Entry<Item, Context, Answer> {
  readonly item: Item;
  readonly context: Context;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
  readonly leave: () => void;
}

export function createBatcher<Item, Context extends { readonly signal: AbortSignal }, Answer>(
  limits: BatchLimits,
  run: Run<Item, Context, Answer>,
): Batcher<Item, Context, Answer> {
  type Member = Entry<Item, Context, Answer>;
  // Both are bounded by the runner's slots: each task adds one item and waits for it.
  let waiting: Member[] = [];
  let running: Set<Member> | null = null;
  let timer: ReturnType<typeof setTimeout> | null = null;

  const settle = (entry: Member, finish: () => void): void => {
    entry.context.signal.removeEventListener("abort", entry.leave);
    running?.delete(entry);
    finish();
  };

  const leave = (entry: Member): void => {
    const reject = (): void => entry.reject(entry.context.signal.reason);
    if (waiting.includes(entry)) {
      waiting = waiting.filter((other) => other !== entry);
      settle(entry, reject);
      if (waiting.length === 0) stopTimer();
    } else if (running?.has(entry) && running.size > 1) {
      settle(entry, reject);
    }
    // The last one stays until the batch has ended: somebody must notice when it never does.
  };

  const stopTimer = (): void => {
    if (timer) clearTimeout(timer);
    timer = null;
  };

  const start = (): void => {
    stopTimer();
    const batch = waiting.slice(0, limits.max);
    waiting = waiting.slice(limits.max);
    running = new Set(batch);
    void runBatch(batch);
  };

  const runBatch = async (batch: readonly Member[]): Promise<void> => {
    try {
      const answers = await run(
        batch.map((entry) => entry.item),
        batch.map((entry) => entry.context),
      );
      if (!Array.isArray(answers) || answers.length !== batch.length) {
        throw new AppError("runner_failed", `inferBatch must return ${batch.length} answers, one for each item`);
      }
      for (const [i, entry] of batch.entries()) {
        if (running?.has(entry)) settle(entry, () => entry.resolve(answers[i]));
      }
    } catch (error) {
      fail(batch, error);
    }
    running = null;
    if (waiting.length > 0) start();
  };

  /** A throw fails all, unless a task had left: then it may be its doing, and the others run again without it. */
  const fail = (batch: readonly Member[], error: unknown): void => {
    const oneLeft = batch.some((entry) => entry.context.signal.aborted);
    const again: Member[] = [];
    for (const entry of batch) {
      if (!running?.has(entry)) continue;
      if (oneLeft && !entry.context.signal.aborted) again.push(entry);
      else settle(entry, () => entry.reject(error));
    }
    waiting = [...again, ...waiting];
  };

  return {
    add(item, context) {
      return new Promise<Answer>((resolve, reject) => {
        const entry: Member = { item, context, resolve, reject, leave: () => leave(entry) };
        context.signal.addEventListener("abort", entry.leave, { once: true });
        waiting.push(entry);
        if (running) return;
        if (waiting.length >= limits.max) start();
        else timer ??= setTimeout(start, limits.waitMs);
      });
    },
  };
}
