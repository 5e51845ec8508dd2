// What an actor and a gateway say to each other about usage, on `millrace.usage`: a batch to be counted, and whether a key
// has tokens left. Checked at both ends; a message of another form is answered with `unknown` and changes nothing.
import { HOUR_MS, type UsageRow } from "./store.ts";

export type UsageQuestion =
  | { readonly v: 1; readonly type: "count"; readonly id: string; readonly rows: readonly UsageRow[] }
  | { readonly v: 1; readonly type: "admit"; readonly keyId: string };

/** `failed`: not now, to be sent again. */
export type UsageAnswer =
  | { readonly v: 1; readonly type: "counted" | "admitted" | "failed" | "unknown" }
  /** The key's day is used up. */
  | { readonly v: 1; readonly type: "refused"; readonly message: string };

/** Rows of one message: below 1 MiB however long their names are. */
export const rowsMax = 1_000;
const NAME_CHARS_MAX = 256;
/** A second's sum, or a time: thousands of them still fit into 64 bits. */
const COUNT_MAX = 1e15;
const ID = /^[A-Za-z0-9-]{1,64}$/;

/** Null for text of another form. */
export function parseQuestion(text: string): UsageQuestion | null {
  const value = objectIn(text);
  if (value?.v !== 1) return null;
  const { type, id, rows, keyId } = value;
  if (type === "admit" && isName(keyId)) return { v: 1, type, keyId };
  if (type !== "count" || typeof id !== "string" || !ID.test(id)) return null;
  if (!Array.isArray(rows) || rows.length > rowsMax || !rows.every(isRow)) return null;
  const places = new Set(
    rows.map(({ keyId, hourMs, model, provider }) => `${keyId}\n${hourMs}\n${model}\n${provider}`),
  );
  return places.size === rows.length ? { v: 1, type, id, rows } : null;
}

/** `unknown` for text of another form. */
export function parseAnswer(text: string): UsageAnswer {
  const { v, type, message } = objectIn(text) ?? {};
  if (v === 1 && (type === "counted" || type === "admitted" || type === "failed")) return { v, type };
  if (v === 1 && type === "refused" && typeof message === "string") return { v, type, message };
  return { v: 1, type: "unknown" };
}

function objectIn(text: string): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

/** PostgreSQL takes no U+0000, and a name is one line. */
const isName = (value: unknown): value is string =>
  typeof value === "string" && value.length <= NAME_CHARS_MAX && /^[\x20-\x7e]+$/.test(value);
const isCount = (value: unknown): value is number =>
  Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= COUNT_MAX;

function isRow(value: unknown): value is UsageRow {
  if (typeof value !== "object" || value === null) return false;
  const row = value as Partial<Record<keyof UsageRow, unknown>>;
  return (
    [row.keyId, row.model, row.provider].every(isName) &&
    [row.hourMs, row.requests, row.promptTokens, row.completionTokens, row.cachedTokens].every(isCount) &&
    Number(row.hourMs) % HOUR_MS === 0
  );
}
