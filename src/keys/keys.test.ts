import { expect, test } from "bun:test";
import { newKeyId, newKeyText } from "./key-text.ts";
import { createKeys } from "./keys.ts";
import type { LiveKey } from "./live-keys.ts";
import { type Principal, requireScope, scopes } from "./principal.ts";

const configured = [
  { id: "alice", secret: "alpha-secret" },
  { id: "bob", secret: "beta-secret" },
];
const keys = createKeys(configured);

test("a key of the configuration names its owner, and may do everything", () => {
  const alice = keys.authenticate("alpha-secret");
  expect(alice).toEqual({
    keyId: "alice",
    scopes: new Set(scopes),
    ratePerMinute: null,
    tokensPerDay: null,
    stored: false,
  });
  expect(keys.authenticate("beta-secret")?.keyId).toBe("bob");
});

test("anything else has no owner", () => {
  for (const presented of ["", "alpha", "alpha-secret ", "ALPHA-SECRET", "alice", "x".repeat(100_000)]) {
    expect(keys.authenticate(presented)).toBeNull();
  }
});

test("the first of two names with one secret owns it", () => {
  const shared = createKeys([
    { id: "first", secret: "same" },
    { id: "second", secret: "same" },
  ]);
  expect(shared.authenticate("same")?.keyId).toBe("first");
});

const principal: Principal = {
  keyId: newKeyId(),
  scopes: new Set(["tasks:read"]),
  ratePerMinute: 5,
  tokensPerDay: null,
  stored: true,
};

/** Keys at a time, over one stored key with two secrets, of which the older is good until 1,000. */
function stored(nowMs: number, expiresMs: number | null = null) {
  const [now, before] = [newKeyText("dev", principal.keyId), newKeyText("dev", principal.keyId)];
  const bytes = (hex: string): Buffer => Buffer.from(hex, "hex");
  const key: LiveKey = {
    principal,
    digest: bytes(now.digest),
    previous: { digest: bytes(before.digest), untilMs: 1_000 },
    expiresMs,
    usedMinute: -1,
  };
  const used: number[] = [];
  const live = {
    find: (id: string) => (id === principal.keyId ? key : undefined),
    used: (_key: LiveKey, ms: number) => void used.push(ms),
  };
  const clock = { now: () => nowMs, monotonicMs: () => nowMs };
  return { keys: createKeys(configured, live, clock), now: now.text, before: before.text, used };
}

test("a stored key is found by its id, and its use is noted", () => {
  const { keys, now, used } = stored(500);
  expect(keys.authenticate(now)).toBe(principal);
  expect(keys.authenticate("alpha-secret")?.keyId).toBe("alice");
  expect(used).toEqual([500]);
});

test("after a rotation both secrets are good for a while, then the new one alone", () => {
  const early = stored(999);
  expect([early.keys.authenticate(early.now), early.keys.authenticate(early.before)]).toEqual([principal, principal]);
  const late = stored(1_000);
  expect([late.keys.authenticate(late.now), late.keys.authenticate(late.before)]).toEqual([principal, null]);
});

test("an expired key, one of another environment, and one of an id that nobody has are refused", () => {
  expect(stored(500, 501).keys.authenticate(stored(500).now)).toBeNull();
  const good = stored(500, 501);
  expect(good.keys.authenticate(good.now)).toBe(principal);
  const expired = stored(501, 501);
  expect([expired.keys.authenticate(expired.now), expired.keys.authenticate(expired.before)]).toEqual([null, null]);
  expect(expired.used).toEqual([]);
  expect(good.keys.authenticate(good.now.replace("_dev_", "_prod_"))).toBeNull();
  expect(good.keys.authenticate(newKeyText("dev", newKeyId()).text)).toBeNull();
});

test("a key of the configuration may look like a stored one", () => {
  const { text } = newKeyText("dev", principal.keyId);
  const { keys } = { keys: createKeys([{ id: "odd", secret: text }], { find: () => undefined, used: () => {} }) };
  expect(keys.authenticate(text)?.keyId).toBe("odd");
});

test("a scope that a key lacks is named", () => {
  expect(() => requireScope(principal, "tasks:read")).not.toThrow();
  expect(() => requireScope(principal, "tasks:write")).toThrow("This key lacks the scope tasks:write.");
});
