// The child's side of supervision: runs one service until a signal or the supervisor's end, and tells the supervisor
// when it is ready or why it cannot be. Called by main.ts alone; the services know nothing of being supervised.
import { asAppError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { Ready } from "./child.ts";

export interface Service extends Ready {
  /** Ends in order: takes no new work, finishes or hands back what it holds. Called once. */
  stop(): Promise<void>;
}

/** The supervisor's reader is a process on this machine: what it has not taken by then, it never will. */
const SEND_MS_MAX = 1_000;

/**
 * Starts the service and resolves when it was stopped by SIGTERM or SIGINT; a second signal ends the process at once.
 * Started with an IPC channel, it also ends at once when the supervisor is gone: its broker and its lease go with it.
 * An AppError of `start` goes to the supervisor where there is one, else to the caller.
 */
export async function serve(start: () => Promise<Service>, log: Log): Promise<void> {
  const asked = Promise.withResolvers<void>();
  let signals = 0;
  const onSignal = (): void => {
    if (++signals > 1) process.exit(1);
    asked.resolve();
  };
  process.on("SIGTERM", onSignal).on("SIGINT", onSignal);
  if (process.send) {
    process.on("disconnect", () => {
      log.error({}, "the supervisor is gone");
      process.exit(1);
    });
  }
  const starting = start();
  const service = await starting.catch(async (error: unknown) => {
    const known = asAppError(error);
    if (!known || !process.send) throw error;
    await tell({ type: "failed", code: known.code, message: known.message });
    return process.exit(1);
  });
  await tell({ type: "ready", ...(service.url === undefined ? {} : { url: service.url }) });
  await asked.promise;
  await service.stop();
}

/** Hands a message to the supervisor's channel; does nothing where there is none. */
function tell(message: object): Promise<void> {
  return new Promise((resolve) => {
    if (!process.send) return resolve();
    const timer = setTimeout(resolve, SEND_MS_MAX);
    process.send(message, undefined, undefined, () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
