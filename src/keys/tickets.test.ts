import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { openKept } from "../db/db.ts";
import { createTickets, ticketSecret } from "./tickets.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace-tickets-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

let now = 1_795_255_200_000;
const clock = { now: () => now, monotonicMs: () => now };
const tickets = createTickets(new Uint8Array(32).fill(1), clock);

test("a ticket names its key for its path until its time, and a changed one names nobody", () => {
  fc.assert(
    fc.property(
      fc.stringMatching(/^[A-Za-z0-9_-]{1,64}$/),
      fc.string(),
      fc.nat(),
      fc.nat(61),
      (keyId, path, at, by) => {
        const ticket = tickets.issue(path, keyId, now + 1_000);
        expect(tickets.holderOf(path, ticket)).toBe(keyId);
        expect(tickets.holderOf(`${path}x`, ticket)).toBeNull();
        expect(createTickets(new Uint8Array(32).fill(2), clock).holderOf(path, ticket)).toBeNull();
        const index = at % ticket.length;
        const letter = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789".charAt(by);
        const changed = ticket.slice(0, index) + letter + ticket.slice(index + 1);
        if (changed !== ticket) expect(tickets.holderOf(path, changed)).toBeNull();
      },
    ),
  );
  const ticket = tickets.issue("/a", "alice", now + 1_000);
  now += 2_000;
  expect(tickets.holderOf("/a", ticket)).toBeNull();
});

test("every gateway has the same secret, drawn once", async () => {
  const place = { dataDir: folder, databaseUrl: null };
  const [first, second] = await Promise.all([openKept(place), openKept(place)]);
  const drawn = await Promise.all([ticketSecret(first.sql), ticketSecret(second.sql)]);
  expect(drawn[0]).toHaveLength(32);
  expect(drawn[1]).toEqual(drawn[0]);
  expect(await ticketSecret(first.sql)).toEqual(drawn[0]);
  await Promise.all([first.close(), second.close()]);
});
