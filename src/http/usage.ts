// `GET /v1/usage`: what a key has used of language models, and the headers that tell what is left of its day. A key sees
// its own; others need the scope `admin`. What is counted, and how, is decided in src/usage.
import { type Clock, rfc3339 } from "../clock.ts";
import { requireScope } from "../keys/principal.ts";
import { compileSchema } from "../registry/schema.ts";
import type { TokenQuota } from "../usage/ledger.ts";
import type { UsageGroup, UsageSum } from "../usage/report.ts";
import { DAY_MS, HOUR_MS } from "../usage/store.ts";
import { type QuotaState, USAGE_KEPT_MS, type Usage } from "../usage/usage.ts";
import { invalidQuery, pointerTo, queryOf } from "./query.ts";
import { type KeyedCall, type KeyedRoute, replyJson } from "./route.ts";
import { usageOperations } from "./usage-operations.ts";
import { usageQuerySchema } from "./usage-schemas.ts";

interface Fields {
  readonly from?: string;
  readonly to?: string;
  readonly group_by?: string;
  readonly key?: string;
}

export function usageRoutes(usage: Pick<Usage, "report" | "quotaOf">, clock: Clock): readonly KeyedRoute[] {
  const check = compileSchema(usageQuerySchema);
  const read = async (call: KeyedCall): Promise<Response> => {
    const fields = fieldsOf(queryOf(call.request), check);
    const key = fields.key ?? call.owner.keyId;
    if (key !== call.owner.keyId) requireScope(call.owner, "admin");
    const { fromMs, toMs } = rangeOf(fields, clock.now());
    const groups = (fields.group_by ?? "model").split(",") as UsageGroup[];
    const keyId = key === "*" ? null : key;
    const [sums, quota] = await Promise.all([
      usage.report({ fromMs, toMs, keyId, groups }),
      keyId === null ? null : usage.quotaOf(keyId),
    ]);
    const answer = { object: "list", data: sums.map(publicSum), quota: quota && publicQuota(quota) };
    return replyJson(call, 200, JSON.stringify(answer));
  };
  return [{ access: "key", method: "GET", path: "/v1/usage", operation: usageOperations.getUsage, handle: read }];
}

/** Of all keys together: a million rows took SQLite 1.4 s, in which a gateway answers nobody. */
const ALL_KEYS_MS_MAX = 31 * DAY_MS;

/** Whole hours. Throws `invalid_request` where there is none, or too many. */
function rangeOf({ from, to, key }: Fields, nowMs: number): { readonly fromMs: number; readonly toMs: number } {
  const fromMs = from === undefined ? floor(nowMs, DAY_MS) : floor(Date.parse(from), HOUR_MS);
  const toMs = floor((to === undefined ? nowMs : Date.parse(to)) - 1, HOUR_MS) + HOUR_MS;
  const daysMax = (key === "*" ? ALL_KEYS_MS_MAX : USAGE_KEPT_MS) / DAY_MS;
  if (fromMs < toMs && toMs - fromMs <= (daysMax + 1) * DAY_MS) return { fromMs, toMs };
  const message = fromMs < toMs ? `must be at most ${daysMax} days after \`from\`` : "must be later than `from`";
  throw invalidQuery([{ path: "/to", message }]);
}

const floor = (ms: number, unitMs: number): number => Math.floor(ms / unitMs) * unitMs;

/** Throws `invalid_request`: a name that was misspelt and ignored would sum up something else. */
function fieldsOf(query: URLSearchParams | null, check: ReturnType<typeof compileSchema>): Fields {
  const names = [...(query?.keys() ?? [])];
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  const fields = Object.fromEntries(query ?? []);
  const problems = twice === undefined ? check(fields) : [{ path: pointerTo(twice), message: "is given twice" }];
  if (problems.length > 0) throw invalidQuery(problems);
  return fields;
}

const publicSum = (sum: UsageSum): object => ({
  start: rfc3339(sum.startMs),
  end: rfc3339(sum.endMs),
  ...(sum.keyId !== null && { key_id: sum.keyId }),
  ...(sum.model !== null && { model: sum.model }),
  ...(sum.provider !== null && { provider: sum.provider }),
  requests: sum.requests,
  prompt_tokens: sum.promptTokens,
  completion_tokens: sum.completionTokens,
  cached_tokens: sum.cachedTokens,
});

const publicQuota = ({ limit, used, remaining, resetsMs }: QuotaState): object => ({
  limit,
  used,
  remaining,
  resets_at: rfc3339(resetsMs),
});

/** As OpenAI sends them; none where the key has no quota. */
export const quotaHeaders = (quota: TokenQuota | undefined): Record<string, string> =>
  quota
    ? {
        "x-ratelimit-limit-tokens": String(quota.limit),
        "x-ratelimit-remaining-tokens": String(quota.remaining),
        "x-ratelimit-reset-tokens": `${quota.resetS}s`,
      }
    : {};
