// SIGTERM and SIGINT as the supervisor hears them: the first asks for an orderly end, a second one for an end at once.
// Called by `up` alone. It ends nothing itself.
import type { Clock } from "../clock.ts";

export interface Signals extends AsyncDisposable {
  /** Resolves to null at the first SIGTERM or SIGINT. */
  readonly asked: Promise<null>;
  /** Aborts at the second one. */
  readonly force: AbortSignal;
}

/**
 * The same signal again within this is the same wish: Ctrl-C goes to every process of a terminal, and `bun millrace`
 * hands it on to the process that it has started, which thus hears it twice. So does `timeout` with SIGTERM.
 */
const ECHO_MS = 500;

export function listenForSignals(clock: Pick<Clock, "monotonicMs">): Signals {
  const asked = Promise.withResolvers<null>();
  const force = new AbortController();
  let first: { readonly name: string; readonly atMs: number } | null = null;
  const onSignal = (name: NodeJS.Signals): void => {
    if (first === null) {
      first = { name, atMs: clock.monotonicMs() };
      asked.resolve(null);
    } else if (name !== first.name || clock.monotonicMs() - first.atMs >= ECHO_MS) {
      force.abort();
    }
  };
  for (const name of ["SIGTERM", "SIGINT"] as const) process.on(name, onSignal);
  return {
    asked: asked.promise,
    force: force.signal,
    async [Symbol.asyncDispose]() {
      for (const name of ["SIGTERM", "SIGINT"] as const) process.off(name, onSignal);
    },
  };
}
