// What OpenAPI says about token usage. Data only, like operations.ts.
import { reportRowsMax } from "../usage/report.ts";
import { DAY_MS } from "../usage/store.ts";
import { USAGE_KEPT_MS } from "../usage/usage.ts";
import { json } from "./operations.ts";
import type { Operation, Parameter } from "./route.ts";
import { usageQuerySchema } from "./usage-schemas.ts";

const { from, to, group_by, key } = usageQuerySchema.properties;

const query = (name: string, schema: object, example: string): Parameter => ({
  name,
  in: "query",
  description: (schema as { readonly description: string }).description,
  schema,
  example,
});

const getUsage: Operation = {
  id: "getUsage",
  tag: "Usage",
  summary: "What was used of language models",
  description:
    "Calls and tokens of the key, live calls and those of tasks, by the hour in which they ended. Aborted calls count " +
    "with the tokens that were made until then; calls that got no answer do not count. Calls of other gateways and of " +
    `tasks appear within about two seconds. Kept for ${USAGE_KEPT_MS / DAY_MS} days. At most ${reportRowsMax} entries.`,
  parameters: [
    query("from", from, "2026-11-01T00:00:00Z"),
    query("to", to, "2026-12-01T00:00:00Z"),
    query("group_by", group_by, "day,model"),
    query("key", key, "*"),
  ],
  answers: {
    "200": json("The usage.", "UsageList", {
      object: "list",
      data: [
        {
          start: "2026-11-21T00:00:00.000Z",
          end: "2026-11-22T00:00:00.000Z",
          model: "meta-llama/Llama-3.1-8B-Instruct",
          requests: 42,
          prompt_tokens: 12_345,
          completion_tokens: 6_789,
          cached_tokens: 4_096,
        },
      ],
      quota: { limit: 1_000_000, used: 19_134, remaining: 980_866, resets_at: "2026-11-22T00:00:00.000Z" },
    }),
  },
  errors: ["invalid_request", "database_unavailable"],
};

export const usageOperations = { getUsage };
