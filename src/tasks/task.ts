// The life of a task as data. `step` is the only place that says which event may follow which state; the gateway's
// view, the projection and the simulation tests all go through it.
//
//            started                    succeeded
//  PENDING ───────────► STARTED ───────────────────────► SUCCESS
//     │  ▲                │   │ failed (no attempt left)
//     │  │ started        │   └──────────────────────────► FAILURE
//     │  └─────── RETRY ◄─┘ retried        ▲
//     └───────────────────────────────────-┘ failed (never started: deadline, poison)
//  PENDING, STARTED and RETRY ── cancelled ──► CANCELLED
//
// SUCCESS, FAILURE and CANCELLED are final: no event leaves them. An attempt that waits for a model server is begun, and in
// RETRY, several times under one number: only its newest event tells which (reader.ts).

export const priorities = ["high", "normal", "low"] as const;
export type Priority = (typeof priorities)[number];

export const statuses = ["PENDING", "STARTED", "RETRY", "SUCCESS", "FAILURE", "CANCELLED"] as const;
export type Status = (typeof statuses)[number];

export type TerminalStatus = "SUCCESS" | "FAILURE" | "CANCELLED";

export const isTerminal = (status: Status): status is TerminalStatus =>
  status === "SUCCESS" || status === "FAILURE" || status === "CANCELLED";

export interface TaskState {
  readonly status: Status;
  /** Attempts begun so far. */
  readonly attempt: number;
}

export type TaskTransition =
  | { readonly kind: "started"; readonly attempt: number }
  | { readonly kind: "retried"; readonly attempt: number }
  | { readonly kind: "ended"; readonly status: TerminalStatus; readonly attempt: number };

export const initial: TaskState = { status: "PENDING", attempt: 0 };

/**
 * The state after `event`. Events may come late, twice or not at all: one that would lead back (an older attempt, a
 * start after the end) leaves the state as it is, so that applying a log twice gives the same as once.
 */
export function step(state: TaskState, event: TaskTransition): TaskState {
  if (isTerminal(state.status)) return state;
  switch (event.kind) {
    case "started":
      return event.attempt > state.attempt ? { status: "STARTED", attempt: event.attempt } : state;
    case "retried": {
      const late = event.attempt < state.attempt || (event.attempt === state.attempt && state.status === "RETRY");
      return late ? state : { status: "RETRY", attempt: event.attempt };
    }
    case "ended":
      return { status: event.status, attempt: Math.max(event.attempt, state.attempt) };
  }
}
