// A wait for a database that has an end. Called by whoever asks one and must not hang.

export class Late extends Error {}

/** What `work` resolves to; throws Late after `ms`. The work itself goes on. */
export function within<T>(ms: number, work: PromiseLike<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Late(`no answer within ${ms} ms`)), ms);
  return Promise.race([work, late.promise]).finally(() => clearTimeout(timer));
}
