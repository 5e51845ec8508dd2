// The JSON Schemas of token usage: what may be asked, and the answer. usage.ts checks queries against the first, which
// openapi.ts publishes with the second. Pure data.
import { usageGroups } from "../usage/report.ts";

const time = (description: string): object => ({ type: "string", format: "date-time", maxLength: 40, description });

export const usageQuerySchema = {
  type: "object",
  additionalProperties: false,
  properties: {
    from: time(
      "Calls that ended at this time or later (RFC 3339), rounded down to the hour. Default: midnight UTC of today.",
    ),
    to: time("Calls that ended before this time (RFC 3339), rounded up to the hour. Default: now."),
    group_by: {
      type: "string",
      pattern: `^(${usageGroups.join("|")})(,(${usageGroups.join("|")})){0,${usageGroups.length - 1}}$`,
      default: "model",
      description: "What has a row of its own: one or more of `hour`, `day` (UTC), `model`, `provider`, `key`.",
    },
    key: {
      type: "string",
      pattern: "^(\\*|[A-Za-z0-9_-]{1,64})$",
      description:
        "Id of another key, or `*` for all of them (31 days at most); needs the scope `admin`. Default: the key's own usage.",
    },
  },
} as const;

const count = (description: string): object => ({ type: "integer", minimum: 0, description });
const name = (description: string): object => ({ type: "string", description });

export const usageSchemas: Readonly<Record<string, object>> = {
  UsageList: {
    type: "object",
    description: "Token usage, summed up, and the key's quota.",
    required: ["object", "data", "quota"],
    properties: {
      object: { type: "string", const: "list", description: "Always `list`." },
      data: {
        type: "array",
        description: "One entry a group that has calls, oldest first.",
        items: {
          type: "object",
          required: ["start", "end", "requests", "prompt_tokens", "completion_tokens", "cached_tokens"],
          properties: {
            start: time("Where this entry begins."),
            end: time("Where it ends; this time is not in it."),
            key_id: name("Id of the key; where `key` is grouped by."),
            model: name("Id of the model that answered; where `model` is grouped by."),
            provider: name("Who served it; where `provider` is grouped by."),
            requests: count("Calls that got an answer, refusals of a model server and cut ones too."),
            prompt_tokens: count("Tokens of prompts."),
            completion_tokens: count("Tokens of answers."),
            cached_tokens: count("Of the prompt tokens, those that the server had in its cache."),
          },
        },
      },
      quota: {
        type: ["object", "null"],
        description: "The key's tokens of this UTC day; null where it has no quota, and for `key=*`.",
        required: ["limit", "used", "remaining", "resets_at"],
        properties: {
          limit: count("Prompt and completion tokens together."),
          used: count("By calls that have ended."),
          remaining: count("Of the limit; calls under way hold some of it."),
          resets_at: time("Midnight UTC."),
        },
      },
    },
  },
};
