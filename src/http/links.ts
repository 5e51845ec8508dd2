// Addresses of a task's parts: the ones that every accepted task comes with, and signed ones that need no key. Paths and
// not whole URLs: what this gateway is called from outside it cannot know.
import type { Clock } from "../clock.ts";
import { rfc3339 } from "../clock.ts";
import type { Tickets } from "../keys/tickets.ts";
import type { Owner } from "../tasks/tasks.ts";

/** An EventSource cannot send a key; it gets an hour, and whoever follows for longer asks for links. */
const EVENTS_TICKET_MS = 3_600_000;

export interface Links {
  /** Where to go on with a task; `events` needs no key for an hour. */
  urls(
    taskId: string,
    owner: Owner,
  ): {
    readonly self: string;
    readonly events: string;
    readonly result: string;
    readonly cancel: string;
  };
  /** Addresses that need no key until `expires_at`. */
  signed(
    taskId: string,
    owner: Owner,
    ttlS: number,
  ): {
    readonly events: string;
    readonly result: string;
    readonly expires_at: string;
  };
}

export function createLinks(tickets: Tickets, clock: Clock): Links {
  const withTicket = (path: string, { keyId }: Owner, expiresMs: number): string =>
    `${path}?ticket=${tickets.issue(path, keyId, expiresMs)}`;
  return {
    urls: (taskId, owner) => ({
      self: `/v1/tasks/${taskId}`,
      events: withTicket(`/v1/tasks/${taskId}/events`, owner, clock.now() + EVENTS_TICKET_MS),
      result: `/v1/tasks/${taskId}/result`,
      cancel: `/v1/tasks/${taskId}/cancel`,
    }),
    signed(taskId, owner, ttlS) {
      const expiresMs = Math.ceil(clock.now() / 1_000 + ttlS) * 1_000;
      return {
        events: withTicket(`/v1/tasks/${taskId}/events`, owner, expiresMs),
        result: withTicket(`/v1/tasks/${taskId}/result`, owner, expiresMs),
        expires_at: rfc3339(expiresMs),
      };
    },
  };
}
