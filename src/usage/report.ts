// What was used, summed up as somebody wants to see it: by hour or day, model, provider, key, or all of it in one row.
// Asked by `GET /v1/usage`. Sums are made by the database; a question that asks for too many rows is refused.
import type { SQL } from "bun";
import { AppError } from "../errors.ts";
import { DAY_MS, HOUR_MS } from "./store.ts";

export const usageGroups = ["hour", "day", "model", "provider", "key"] as const;
export type UsageGroup = (typeof usageGroups)[number];

export interface UsageQuery {
  /** Whole hours, milliseconds since the epoch; `toMs` is not among them. */
  readonly fromMs: number;
  readonly toMs: number;
  /** Null: of all keys. */
  readonly keyId: string | null;
  readonly groups: readonly UsageGroup[];
}

/** A field that is not grouped by is null. */
export interface UsageSum {
  readonly startMs: number;
  readonly endMs: number;
  readonly keyId: string | null;
  readonly model: string | null;
  readonly provider: string | null;
  readonly requests: number;
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly cachedTokens: number;
}

/** Rows of one answer: two MB of JSON, and some 20 ms of this process's time. */
export const reportRowsMax = 10_000;

interface SumRow {
  readonly start_ms: number | string;
  readonly key_id: string;
  readonly model: string;
  readonly provider: string;
  readonly requests: number | string;
  readonly prompt_tokens: number | string;
  readonly completion_tokens: number | string;
  readonly cached_tokens: number | string;
}

/** Oldest first, then by key, model and provider. Throws `invalid_request` for more than reportRowsMax rows. */
export async function readUsage(sql: SQL, { fromMs, toMs, keyId, groups }: UsageQuery): Promise<UsageSum[]> {
  const by = (group: UsageGroup): boolean => groups.includes(group);
  const start = by("hour") ? sql`hour_ms` : by("day") ? sql`hour_ms - hour_ms % 86400000` : sql`0`;
  const rows: SumRow[] = await sql`
    SELECT ${start} AS start_ms, ${by("key") ? sql`key_id` : sql`''`} AS key_id,
      ${by("model") ? sql`model` : sql`''`} AS model, ${by("provider") ? sql`provider` : sql`''`} AS provider,
      sum(requests) AS requests, sum(prompt_tokens) AS prompt_tokens, sum(completion_tokens) AS completion_tokens,
      sum(cached_tokens) AS cached_tokens
    FROM token_usage
    WHERE hour_ms >= ${fromMs} AND hour_ms < ${toMs} ${keyId === null ? sql`` : sql`AND key_id = ${keyId}`}
    GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4 LIMIT ${reportRowsMax + 1}`;
  if (rows.length > reportRowsMax) {
    const why = `This asks for more than ${reportRowsMax} rows: take a shorter time, or group by less.`;
    throw new AppError("invalid_request", why, { fields: [{ path: "/group_by", message: "makes too many rows" }] });
  }
  const length = by("hour") ? HOUR_MS : DAY_MS;
  return rows.map((row) => {
    const startMs = Number(row.start_ms);
    const timed = by("hour") || by("day");
    return {
      startMs: timed ? Math.max(startMs, fromMs) : fromMs,
      endMs: timed ? Math.min(startMs + length, toMs) : toMs,
      keyId: by("key") ? row.key_id : null,
      model: by("model") ? row.model : null,
      provider: by("provider") ? row.provider : null,
      requests: Number(row.requests),
      promptTokens: Number(row.prompt_tokens),
      completionTokens: Number(row.completion_tokens),
      cachedTokens: Number(row.cached_tokens),
    };
  });
}

/** Tokens, prompt and answer, that the key has used in the day that begins at `dayMs`. */
export async function tokensOfDay(sql: SQL, keyId: string, dayMs: number): Promise<number> {
  const [row]: { tokens: number | string | null }[] = await sql`
    SELECT sum(prompt_tokens + completion_tokens) AS tokens FROM token_usage
    WHERE key_id = ${keyId} AND hour_ms >= ${dayMs} AND hour_ms < ${dayMs + DAY_MS}`;
  return Number(row?.tokens ?? 0);
}
