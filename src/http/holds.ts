// Requests that are kept open on purpose: long polls, event streams, calls of models. Each gets a signal that aborts when its client
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
  /** Aborts all waits and streams that are open and will be opened; calls when `graceMs` are over. */
  stop(graceMs: number): void;
  /** How many are open, of a kind or in all. */
  count(kind?: HoldKind): number;
  /** Whether this request waits here or has: its length says nothing about this gateway. */
  wasHeld(request: Request): boolean;
}

/** A long poll, an event stream that its client resumes elsewhere, or a call of a model, which is finished here. */
export const holdKinds = ["wait", "stream", "call"] as const;
export type HoldKind = (typeof holdKinds)[number];

/**
 * `keepOpen` switches the idle timeout of a request's socket off, and on again: what is still to be sent then must be
 * read, or megabytes would wait for a client that reads nothing.
 */
export function createHolds(keepOpen: (request: Request, isKept: boolean) => void): Holds {
  const open = new Map<AbortController, HoldKind>();
  const held = new WeakSet<Request>();
  const keys = new Map<string, number>();
  const counts = { wait: 0, stream: 0, call: 0 };
  let stopped = false;
  const abortAll = (isMeant: (kind: HoldKind) => boolean): void => {
    for (const [controller, kind] of open) if (isMeant(kind)) controller.abort();
  };
  return {
    open({ request, owner: { keyId } }, kind = "wait") {
      const ofKey = keys.get(keyId) ?? 0;
      if (open.size >= holdsMax || ofKey >= holdsPerKeyMax) {
        throw new AppError("not_ready", "Too many requests wait here already.", { retryAfterS: 1 });
      }
      keepOpen(request, true);
      const controller = new AbortController();
      const abort = (): void => controller.abort();
      if ((stopped && kind !== "call") || request.signal.aborted) abort();
      request.signal.addEventListener("abort", abort, { once: true });
      open.set(controller, kind);
      keys.set(keyId, ofKey + 1);
      held.add(request);
      counts[kind]++;
      return {
        signal: controller.signal,
        abort,
        release() {
          if (open.delete(controller)) {
            keepOpen(request, false);
            counts[kind]--;
            const left = (keys.get(keyId) ?? 1) - 1;
            if (left > 0) keys.set(keyId, left);
            else keys.delete(keyId);
          }
          request.signal.removeEventListener("abort", abort);
        },
      };
    },
    stop(graceMs) {
      stopped = true;
      abortAll((kind) => kind !== "call");
      // Not kept alive by this: where all calls have ended there is nothing left to abort.
      setTimeout(() => abortAll(() => true), graceMs).unref();
    },
    count: (kind) => (kind ? counts[kind] : open.size),
    wasHeld: (request) => held.has(request),
  };
}
