// The words of `millrace keys create|list|rotate|revoke`. main.ts parses them here and hands the command to
// run-command.ts; nothing is opened or changed by parsing.
import { parseArgs } from "node:util";
import { messageOf } from "../errors.ts";
import { parseDurationMs } from "../settings.ts";
import { keyIdIn } from "./key-text.ts";
import { isScope, type Scope, scopes } from "./principal.ts";

export const KEYS_HELP = `usage: bun millrace keys <command>

  create --name NAME      make a key; it is shown this once
    --scopes LIST         default tasks:read,tasks:write; also admin, metrics
    --expires DURATION    such as 90d; default never
    --rate-limit N        requests a minute, 0 for no limit; default RATE_LIMIT_PER_MINUTE
    --tokens-per-day N    tokens of language models a UTC day, 0 for no limit; default TOKENS_PER_DAY
  list                    all keys, newest first
  rotate ID               give a key another secret
    --overlap DURATION    the one before stays good so long; default 24h
  revoke ID               for good, on every gateway within 5 seconds

An ID may also be given as the whole key. Output is for people on a terminal and JSON in a pipe.
`;

export type KeysCommand =
  | {
      readonly name: "create";
      readonly keyName: string;
      readonly scopes: readonly Scope[];
      readonly expiresMs: number | null;
      readonly ratePerMinute: number | null;
      readonly tokensPerDay: number | null;
    }
  | { readonly name: "list" }
  | { readonly name: "rotate"; readonly id: string; readonly overlapMs: number }
  | { readonly name: "revoke"; readonly id: string }
  | { readonly name: "help" };

const OVERLAP = "24h";

/** What the arguments after `keys` ask for; a text when they make no sense. */
export function parseKeysCommand(args: string[]): KeysCommand | string {
  const text = { type: "string" } as const;
  const limits = { "rate-limit": text, "tokens-per-day": text };
  const options = { name: text, scopes: text, expires: text, overlap: text, ...limits };
  try {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: { ...options, help: { type: "boolean", short: "h" } },
    });
    const [name, ...rest] = positionals;
    if (values.help || name === "help" || name === undefined) return { name: "help" };
    const allowed = {
      create: ["name", "scopes", "expires", "rate-limit", "tokens-per-day"],
      list: [],
      rotate: ["overlap"],
      revoke: [],
    };
    const takes = (allowed as Record<string, readonly string[]>)[name];
    if (!takes) return `no command keys ${name}`;
    const stray = Object.keys(values).find((option) => !takes.includes(option));
    if (stray) return `keys ${name} takes no --${stray}`;
    if (name === "list" || name === "create") {
      if (rest.length > 0) return `keys ${name} takes no ${rest.join(" ")}`;
      return name === "list" ? { name } : parseCreate(values);
    }
    const id = idOf(rest[0] ?? "");
    if (id === null || rest.length !== 1) return `keys ${name} needs the id of one key, such as mr_4f0k2m7q9x1t`;
    if (name === "revoke") return { name, id };
    const overlapMs = parseDurationMs(values.overlap ?? OVERLAP);
    return overlapMs === null ? "--overlap is a duration such as 24h, or 0" : { name: "rotate", id, overlapMs };
  } catch (error) {
    return messageOf(error);
  }
}

function parseCreate(values: Readonly<Record<string, string | boolean | undefined>>): KeysCommand | string {
  const text = (option: string): string | undefined => values[option] as string | undefined;
  const keyName = text("name") ?? "";
  if (!/^[\x21-\x7e][\x20-\x7e]{0,63}$/.test(keyName)) return "--name is 1 to 64 visible ASCII characters";
  const wanted = (text("scopes") ?? "tasks:read,tasks:write").split(",").map((scope) => scope.trim());
  const unknown = wanted.find((scope) => !isScope(scope));
  if (unknown !== undefined) return `no scope ${JSON.stringify(unknown)}: there are ${scopes.join(", ")}`;
  const expires = text("expires");
  const expiresMs = expires === undefined ? null : parseDurationMs(expires);
  if (expires !== undefined && !expiresMs) return "--expires is a duration such as 90d";
  const rate = text("rate-limit");
  if (rate !== undefined && !/^\d{1,7}$/.test(rate)) return "--rate-limit is a whole number of requests a minute, or 0";
  const tokens = text("tokens-per-day");
  if (tokens !== undefined && !/^\d{1,13}$/.test(tokens)) return "--tokens-per-day is a whole number of tokens, or 0";
  const chosen = scopes.filter((scope) => wanted.includes(scope));
  const ratePerMinute = rate === undefined ? null : Number(rate);
  const tokensPerDay = tokens === undefined ? null : Number(tokens);
  return { name: "create", keyName, scopes: chosen, expiresMs, ratePerMinute, tokensPerDay };
}

/** `mr_…`, those twelve characters alone, or the whole key. */
function idOf(text: string): string | null {
  const id = text.startsWith("mr_") ? text : `mr_${text}`;
  return keyIdIn(text) ?? (/^mr_[0-9a-hjkmnp-tv-z]{12}$/.test(id) ? id : null);
}
