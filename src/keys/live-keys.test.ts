import { afterEach, beforeEach, expect, test } from "bun:test";
import { forEachDatabase } from "../../tests/databases.ts";
import { type Db, openKept, openUsage } from "../db/db.ts";
import { silentLog } from "../log.ts";
import { newKeyId, newKeyText } from "./key-text.ts";
import { createKeys } from "./keys.ts";
import { openLiveKeys } from "./live-keys.ts";
import { insertKey, KEYS_MAX, listKeys, revokeKey, rotateKey, type StoredKey } from "./store.ts";
import { readLastUsed } from "./usage.ts";

function newKey(fields: Partial<StoredKey> = {}): StoredKey & { readonly text: string } {
  const id = newKeyId();
  const env = fields.env ?? "dev";
  const { text, digest } = newKeyText(env, id);
  const times = { previousDigest: null, previousUntilMs: null, createdMs: 1, expiresMs: null, revokedMs: null };
  return {
    id,
    env,
    name: "web",
    scopes: ["tasks:read"],
    digest,
    ...times,
    ratePerMinute: null,
    tokensPerDay: null,
    ...fields,
    text,
  };
}

forEachDatabase(({ empty }) => {
  let kept: Db;
  let usage: Db;
  beforeEach(async () => {
    const place = await empty();
    [kept, usage] = await Promise.all([openKept(place), openUsage(place)]);
  });
  afterEach(() => Promise.all([kept.close(), usage.close()]));

  /** A gateway's keys, polled by hand: its timer fires when the test says so. */
  async function gateway(nowMs = 60_000) {
    const time = { now: nowMs };
    let look = async (): Promise<void> => {};
    const clock = { now: () => time.now, monotonicMs: () => time.now };
    const live = await openLiveKeys({
      kept: kept.sql,
      usage: usage.sql,
      env: "dev",
      log: silentLog,
      clock,
      every: (given) => {
        look = given;
        return () => {};
      },
    });
    const keys = createKeys([], live, clock);
    return { live, time, poll: () => look(), keys };
  }

  test("made, rotated and revoked on one side, seen on the other at its next look", async () => {
    const first = newKey();
    await insertKey(kept.sql, first);
    const { keys, live, poll, time } = await gateway();
    expect(keys.authenticate(first.text)).toMatchObject({ keyId: first.id, scopes: new Set(["tasks:read"]) });

    const second = newKey({ scopes: ["admin", "metrics"], ratePerMinute: 7, tokensPerDay: 9 });
    await insertKey(kept.sql, second);
    expect(keys.authenticate(second.text)).toBeNull();
    await poll();
    expect(keys.authenticate(second.text)).toMatchObject({
      scopes: new Set(["admin", "metrics"]),
      ratePerMinute: 7,
      tokensPerDay: 9,
    });

    const rotated = newKeyText("dev", first.id);
    await rotateKey(kept.sql, first.id, rotated.digest, time.now + 10);
    await poll();
    expect([first.text, rotated.text].map((text) => keys.authenticate(text)?.keyId)).toEqual([first.id, first.id]);
    time.now += 10;
    expect([first.text, rotated.text].map((text) => keys.authenticate(text)?.keyId)).toEqual([undefined, first.id]);

    await revokeKey(kept.sql, first.id, time.now);
    await poll();
    expect([keys.authenticate(rotated.text), live.count()]).toEqual([null, 1]);
    await live.stop();
  });

  test("a third secret ends the first at once", async () => {
    const key = newKey();
    await insertKey(kept.sql, key);
    const { keys, poll, live } = await gateway();
    const texts = [newKeyText("dev", key.id), newKeyText("dev", key.id)];
    for (const { digest } of texts) await rotateKey(kept.sql, key.id, digest, 1_000_000);
    await poll();
    const owners = [key.text, ...texts.map(({ text }) => text)].map((text) => keys.authenticate(text)?.keyId);
    expect(owners).toEqual([undefined, key.id, key.id]);
    await live.stop();
  });

  test("a key of the other environment does not exist here", async () => {
    const key = newKey({ env: "prod" });
    await insertKey(kept.sql, key);
    const { keys, live } = await gateway();
    expect([keys.authenticate(key.text), live.count()]).toEqual([null, 0]);
    await live.stop();
  });

  test("the last use is written once a minute and at the end, by the minute, and never goes back", async () => {
    const key = newKey();
    await insertKey(kept.sql, key);
    const { keys, poll, time, live } = await gateway(61_000);
    keys.authenticate(key.text);
    time.now = 119_000;
    keys.authenticate(key.text);
    await poll();
    expect(await readLastUsed(usage.sql)).toEqual(new Map());
    time.now = 121_000;
    await poll();
    expect(await readLastUsed(usage.sql)).toEqual(new Map([[key.id, 60_000]]));
    keys.authenticate(key.text);
    const slower = await gateway(61_000);
    slower.keys.authenticate(key.text);
    await live.stop();
    await slower.live.stop();
    expect(await readLastUsed(usage.sql)).toEqual(new Map([[key.id, 120_000]]));
  });

  test("without the database what is known stays good, and it is told that it is old", async () => {
    const key = newKey();
    await insertKey(kept.sql, key);
    const { keys, poll, time, live } = await gateway();
    await kept.sql.unsafe("ALTER TABLE api_keys_revision RENAME TO away");
    time.now += 4_999;
    await poll();
    expect([keys.authenticate(key.text)?.keyId, live.isFresh()]).toEqual([key.id, true]);
    time.now += 1;
    expect(live.isFresh()).toBe(false);
    await kept.sql.unsafe("ALTER TABLE away RENAME TO api_keys_revision");
    await poll();
    expect(live.isFresh()).toBe(true);
    await live.stop();
  });

  test("unknown and revoked ids are refused; revoking twice keeps the first time", async () => {
    const key = newKey();
    await insertKey(kept.sql, key);
    await expect(revokeKey(kept.sql, newKeyId(), 5)).rejects.toMatchObject({ code: "key_not_found" });
    await revokeKey(kept.sql, key.id, 5);
    await revokeKey(kept.sql, key.id, 6);
    expect((await listKeys(kept.sql)).map(({ revokedMs }) => revokedMs)).toEqual([5]);
    await expect(rotateKey(kept.sql, key.id, "00", 7)).rejects.toMatchObject({ code: "key_not_found" });
  });

  test(`there are at most ${KEYS_MAX} live keys`, async () => {
    const fields = { env: "dev", name: "filler", scopes: "", digest: "00", created_ms: 1 };
    const rows = Array.from({ length: KEYS_MAX }, (_, i) => ({ id: `mr_${i}`, ...fields }));
    for (const half of [rows.slice(0, KEYS_MAX / 2), rows.slice(KEYS_MAX / 2)]) {
      await kept.sql`INSERT INTO api_keys ${kept.sql(half)}`;
    }
    await expect(insertKey(kept.sql, newKey())).rejects.toThrow("revoke some");
    await revokeKey(kept.sql, "mr_7", 5);
    await insertKey(kept.sql, newKey());
    const { live } = await gateway();
    expect(live.count()).toBe(KEYS_MAX);
    await live.stop();
  });
});
