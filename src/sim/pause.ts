// Waiting, in faults and in answers that take their time: it ends with whoever waits. Timers of the engine's steps are
// not its business.

/** Resolves after so long (Infinity: never), or at once when `gone` aborts. */
export function pause(ms: number, gone: AbortSignal): Promise<void> {
  if (gone.aborted) return Promise.resolve();
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = Number.isFinite(ms) ? setTimeout(resolve, ms) : undefined;
  const leave = (): void => resolve();
  gone.addEventListener("abort", leave, { once: true });
  return promise.finally(() => {
    clearTimeout(timer);
    gone.removeEventListener("abort", leave);
  });
}
