// The JSON Schemas of links. links' bodies are checked against the first. Pure data.

/** As long as it takes to hand a link to a browser. */
export const linkSecondsDefault = 300;

export const linksRequestSchema = {
  type: "object",
  description: "How long the links are to work.",
  additionalProperties: false,
  properties: {
    expires_in_s: {
      type: "integer",
      minimum: 10,
      maximum: 604_800,
      default: linkSecondsDefault,
      description: "Seconds until they end, at most a week. They end with the key as well.",
    },
  },
} as const;

export const taskDataSchemas: Readonly<Record<string, object>> = {
  LinksRequest: linksRequestSchema,
  Links: {
    type: "object",
    description: "Addresses that need no key: whoever has one can read that one thing until it ends.",
    required: ["events", "result", "expires_at"],
    properties: {
      events: { type: "string", description: "Path of the event stream with its ticket, for an EventSource." },
      result: { type: "string", description: "Path of the result with its ticket, for a download." },
      expires_at: { type: "string", format: "date-time", description: "When both end (RFC 3339)." },
    },
  },
};
