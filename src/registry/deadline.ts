// A bound on waiting for code that is not ours: a plugin's import, load, health, unload. What overran is not stopped
// (nothing can stop it), only no longer waited for.

/** `work`, or a rejection with the error of `late` after `ms`. Leaves no timer behind. */
export async function withDeadline<T>(work: T | Promise<T>, ms: number, late: () => Error): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const overrun = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(late()), ms);
  });
  try {
    return await Promise.race([work, overrun]);
  } finally {
    clearTimeout(timer);
  }
}
