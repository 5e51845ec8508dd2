// Who may be sent to next: so many at once in all, for one host and for one API key, so that a receiver that does not
// answer holds up nobody else. Pure counting; the deliverer asks before it claims.
import type { DueDelivery } from "./store.ts";

/** Attempts under way at once, each a socket and up to 64 KiB of body. */
export const IN_ALL_MAX = 128;
/** For one host and port: a receiver gets no more than this at once, and a dead one holds no more. */
export const PER_HOST_MAX = 8;
/** For one API key, which may name many hosts. */
export const PER_KEY_MAX = 64;

export interface Lanes {
  /** Attempts that may begin. */
  room(): number;
  /** Of `due`, in order, those that may begin now; they count from here on. */
  enter(due: readonly DueDelivery[]): DueDelivery[];
  leave(delivery: Pick<DueDelivery, "host" | "keyId">): void;
  fullHosts(): string[];
  fullKeys(): string[];
}

export function createLanes(): Lanes {
  let inAll = 0;
  const hosts = new Map<string, number>();
  const keys = new Map<string, number>();
  const add = (counts: Map<string, number>, name: string, by: number): void => {
    const count = (counts.get(name) ?? 0) + by;
    if (count > 0) counts.set(name, count);
    else counts.delete(name);
  };
  const full = (counts: Map<string, number>, max: number): string[] =>
    [...counts].filter(([, count]) => count >= max).map(([name]) => name);
  return {
    room: () => IN_ALL_MAX - inAll,
    enter: (due) =>
      due.filter(({ host, keyId }) => {
        const crowded = (hosts.get(host) ?? 0) >= PER_HOST_MAX || (keys.get(keyId) ?? 0) >= PER_KEY_MAX;
        if (inAll >= IN_ALL_MAX || crowded) return false;
        inAll++;
        add(hosts, host, 1);
        add(keys, keyId, 1);
        return true;
      }),
    leave({ host, keyId }) {
      inAll--;
      add(hosts, host, -1);
      add(keys, keyId, -1);
    },
    fullHosts: () => full(hosts, PER_HOST_MAX),
    fullKeys: () => full(keys, PER_KEY_MAX),
  };
}
