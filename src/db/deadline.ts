// A wait for a database that has an end. Called by whoever asks one and must not hang.
import { withDeadline } from "../deadline.ts";

export class Late extends Error {}

/** What `work` resolves to; throws Late after `ms`. The work itself goes on. */
export const within = <T>(ms: number, work: PromiseLike<T>): Promise<T> =>
  withDeadline(work, ms, () => new Late(`no answer within ${ms} ms`));
