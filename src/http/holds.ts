// Requests that are kept open on purpose: long polls and event streams. Each gets a signal that aborts when its client
// leaves or this server stops, freedom from Bun's idle timeout, and a place in a bounded number. Whoever opens a hold
// must release it.

import { AppError } from "../errors.ts";
import type { Owner } from "../tasks/tasks.ts";
import type { KeyedCall } from "./route.ts";

/** Sockets one process may keep for waiting clients; beyond it new ones are told to come back. */
const holdsMax = 10_000;
/** Of these one key, and whoever it gave links to. */
const holdsPerKeyMax = holdsMax / 2;

export interface Hold {
  readonly signal: AbortSignal;
  /** Tells whoever works for this request that nobody waits any more. */
  abort(): void;
  /** Gives the place back. Idempotent. */
  release(): void;
}

export interface Holds {
  /** Throws `not_ready` when too many requests wait already. After `stop` the signal is aborted from the start. */
  open(call: Pick<KeyedCall, "request"> & { readonly owner: Owner }, kind?: HoldKind): Hold;
  /** Aborts all that are open and will be opened. */
  stop(): void;
  /** How many are open, of a kind or in all. */
  count(kind?: HoldKind): number;
  /** Whether this request waits here or has: its length says nothing about this gateway. */
  wasHeld(request: Request): boolean;
}

/** A long poll, or an event stream. */
export type HoldKind = "wait" | "stream";

/** `keepOpen` switches the idle timeout of a request's socket off. */
export function createHolds(keepOpen: (request: Request) => void): Holds {
  const open = new Set<AbortController>();
  const held = new WeakSet<Request>();
  const keys = new Map<string, number>();
  const counts = { wait: 0, stream: 0 };
  let stopped = false;
  return {
    open({ request, owner: { keyId } }, kind = "wait") {
      const ofKey = keys.get(keyId) ?? 0;
      if (open.size >= holdsMax || ofKey >= holdsPerKeyMax) {
        throw new AppError("not_ready", "Too many requests wait here already.", { retryAfterS: 1 });
      }
      keepOpen(request);
      const controller = new AbortController();
      const abort = (): void => controller.abort();
      if (stopped || request.signal.aborted) abort();
      request.signal.addEventListener("abort", abort, { once: true });
      open.add(controller);
      keys.set(keyId, ofKey + 1);
      held.add(request);
      counts[kind]++;
      return {
        signal: controller.signal,
        abort,
        release() {
          if (open.delete(controller)) {
            counts[kind]--;
            const left = (keys.get(keyId) ?? 1) - 1;
            if (left > 0) keys.set(keyId, left);
            else keys.delete(keyId);
          }
          request.signal.removeEventListener("abort", abort);
        },
      };
    },
    stop() {
      stopped = true;
      for (const controller of open) controller.abort();
    },
    count: (kind) => (kind ? counts[kind] : open.size),
    wasHeld: (request) => held.has(request),
  };
}
