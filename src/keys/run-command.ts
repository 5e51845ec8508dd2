// Does what a `keys` command says: an operator's hand on the table of keys, beside running gateways or before the first
// start. Called by main.ts. It shows a secret once, when it is made, and writes it nowhere.
import { rfc3339 } from "../clock.ts";
import type { Config } from "../config.ts";
import { type Db, openKept, openUsage } from "../db/db.ts";
import { KEYS_HELP, type KeysCommand } from "./command.ts";
import { newKeyId, newKeyText } from "./key-text.ts";
import { insertKey, listKeys, readKey, revokeKey, rotateKey, type StoredKey } from "./store.ts";
import { readLastUsed } from "./usage.ts";

/**
 * What to print: for people, or JSON on one line. Throws `key_not_found`, `invalid_config` for more keys than gateways
 * hold.
 */
export async function runKeysCommand(config: Config, command: KeysCommand, forPeople: boolean): Promise<string> {
  if (command.name === "help") return KEYS_HELP;
  const [kept, usage] = await Promise.all([openKept(config), openUsage(config)]);
  try {
    return await answer(config, command, kept, usage, forPeople);
  } finally {
    await Promise.all([kept.close(), usage.close()]);
  }
}

async function answer(
  config: Config,
  command: Exclude<KeysCommand, { readonly name: "help" }>,
  kept: Db,
  usage: Db,
  forPeople: boolean,
): Promise<string> {
  const nowMs = Date.now();
  switch (command.name) {
    case "create": {
      const key = await create(config, command, kept, nowMs);
      return forPeople ? newKeyLines(key) : json(key);
    }
    case "rotate": {
      const { env } = await readKey(kept.sql, command.id);
      const { text, digest } = newKeyText(env, command.id);
      await rotateKey(kept.sql, command.id, digest, nowMs + command.overlapMs);
      const key = { key: text, ...publicKey(await readKey(kept.sql, command.id), nowMs, null) };
      return forPeople ? newKeyLines(key) : json(key);
    }
    case "revoke": {
      await revokeKey(kept.sql, command.id, nowMs);
      if (forPeople) return `${command.id} is revoked; gateways refuse it within 5 seconds\n`;
      return json(publicKey(await readKey(kept.sql, command.id), nowMs, null));
    }
    case "list": {
      const lastUsed = await readLastUsed(usage.sql);
      const keys = await listKeys(kept.sql);
      const data = keys.map((key) => publicKey(key, nowMs, lastUsed.get(key.id) ?? null));
      return forPeople ? table(data) : json({ object: "list", data });
    }
  }
}

async function create(
  { env }: Config,
  command: Extract<KeysCommand, { readonly name: "create" }>,
  kept: Db,
  nowMs: number,
): Promise<NewKey> {
  const id = newKeyId();
  const { text, digest } = newKeyText(env, id);
  const stored: StoredKey = {
    id,
    env,
    name: command.keyName,
    scopes: command.scopes,
    digest,
    previousDigest: null,
    previousUntilMs: null,
    ratePerMinute: command.ratePerMinute,
    tokensPerDay: command.tokensPerDay,
    createdMs: nowMs,
    expiresMs: command.expiresMs === null ? null : nowMs + command.expiresMs,
    revokedMs: null,
  };
  await insertKey(kept.sql, stored);
  return { key: text, ...publicKey(stored, nowMs, null) };
}

type PublicKey = ReturnType<typeof publicKey>;
type NewKey = PublicKey & { readonly key: string };

/** What may be shown again and again. Times are RFC 3339. */
function publicKey(key: StoredKey, nowMs: number, lastUsedMs: number | null) {
  const time = (ms: number | null): string | null => (ms === null ? null : rfc3339(ms));
  const rotating = key.previousUntilMs !== null && key.previousUntilMs > nowMs;
  return {
    id: key.id,
    name: key.name,
    env: key.env,
    status: key.revokedMs !== null ? "revoked" : key.expiresMs !== null && key.expiresMs <= nowMs ? "expired" : "live",
    scopes: key.scopes,
    rate_limit_per_minute: key.ratePerMinute,
    tokens_per_day: key.tokensPerDay,
    created_at: rfc3339(key.createdMs),
    expires_at: time(key.expiresMs),
    revoked_at: time(key.revokedMs),
    /** Until when the secret before the last rotation is good as well. */
    previous_until: rotating ? time(key.previousUntilMs) : null,
    last_used_at: time(lastUsedMs),
  };
}

const json = (value: object): string => `${JSON.stringify(value)}\n`;

function newKeyLines(key: NewKey): string {
  const rows = [
    ["key", key.key],
    ["id", key.id],
    ["name", key.name],
    ["scopes", key.scopes.join(", ")],
    ["expires", key.expires_at ?? "never"],
    ...(key.previous_until === null ? [] : [["old key", `good until ${key.previous_until}`]]),
  ];
  const lines = rows.map(([name = "", value]) => `${name.padEnd(9)}${value}`);
  return `${lines.join("\n")}\n\nThe key is shown this once. Gateways with ENV=${key.env} take it within 5 seconds.\n`;
}

function table(keys: readonly PublicKey[]): string {
  if (keys.length === 0) return "no keys yet: bun millrace keys create --name NAME\n";
  const rows = keys.map((key) => [
    key.id,
    key.status,
    key.expires_at?.slice(0, 10) ?? "never",
    key.last_used_at === null ? "never" : `${key.last_used_at.slice(0, 16)}Z`,
    key.scopes.join(","),
    key.name,
  ]);
  const all = [["ID", "STATUS", "EXPIRES", "LAST USED", "SCOPES", "NAME"], ...rows];
  const widths = (all[0] ?? []).map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  return `${all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n")}\n`;
}
