// A bound on waiting for what may never answer: a database, a store, the broker, code of a plugin. Called by whoever must
// not hang. What overran is not stopped, only no longer waited for; whoever began it ends it.

/**
 * What `work` gives, unless `signal` aborts first (its reason is thrown) or `ms` pass (`late()` is thrown). Leaves
 * neither a timer nor a listener behind.
 */
export async function withDeadline<T>(
  work: T | PromiseLike<T>,
  ms: number,
  late: () => Error,
  signal?: AbortSignal,
): Promise<T> {
  const { promise: cut, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(late()), ms);
  const aborted = (): void => reject(signal?.reason);
  signal?.addEventListener("abort", aborted, { once: true });
  if (signal?.aborted) aborted();
  try {
    return await Promise.race([work, cut]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", aborted);
  }
}
