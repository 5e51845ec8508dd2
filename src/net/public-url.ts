// What a URL given by a user may look like. The gateway calls `urlProblem` when a task is submitted (as the JSON-Schema
// format "public-url"); fetch-input.ts calls `parseTarget` before every connection, redirects included. Nothing here
// resolves a name: a URL that passes may still lead to a private address and is checked again when it is fetched.
import { isIP } from "node:net";
import { AppError } from "../errors.ts";
import { isPublicAddress } from "./addresses.ts";

const URL_CHARACTERS_MAX = 2_048;

/** Web ports. Others are refused, so that nobody can talk to a mail server or a database through us. */
const PORTS = [80, 443, 8080, 8443];

/** Names that no public DNS serves (RFC 6761, 6762, 8375, and ICANN's private `internal`). */
const PRIVATE_NAMES = ["localhost", "local", "internal", "home.arpa"];

/** A URL that was parsed once; what is connected to is taken from here and never from the text. */
export interface Target {
  readonly url: URL;
  /** Host name in ASCII, or an IP literal without brackets. */
  readonly host: string;
  readonly port: number;
  /** The operator lists this host: it may be private, on any port. */
  readonly allowed: boolean;
}

/** The reason why `url` is refused before any look-up, fit for the client and without the URL; null when it passes. */
export function urlProblem(url: string, allowHosts: readonly string[]): string | null {
  const target = parse(url, allowHosts);
  return typeof target === "string" ? target : null;
}

export interface CallbackRules {
  /** Hosts that may be private: FETCH_ALLOW_HOSTS. */
  readonly allowHosts: readonly string[];
  /** Refuses plain http. */
  readonly httpsOnly: boolean;
}

/** As `urlProblem`, for a URL that results are sent to. */
export const callbackProblem = (url: string, { allowHosts, httpsOnly }: CallbackRules): string | null =>
  httpsOnly && !/^https:/i.test(url) ? "must begin with https://" : urlProblem(url, allowHosts);

/** The parsed URL. Throws `fetch_blocked` where `urlProblem` has a reason. */
export function parseTarget(url: string, allowHosts: readonly string[]): Target {
  const target = parse(url, allowHosts);
  if (typeof target === "string") throw new AppError("fetch_blocked", `The URL ${target}`);
  return target;
}

function parse(text: string, allowHosts: readonly string[]): Target | string {
  if (text.length > URL_CHARACTERS_MAX) return `must have at most ${URL_CHARACTERS_MAX} characters`;
  // Parsers disagree on these; the WHATWG one silently drops or rewrites them.
  if (/[\s\p{Cc}\\]/u.test(text)) return "must not hold spaces, control characters or backslashes";
  const authority = /^https?:\/\/([^/?#]+)/i.exec(text)?.[1];
  if (authority === undefined) return "must begin with https:// or http:// and a host";
  if (authority.includes("@")) return "must not hold a user name or password";
  if (!URL.canParse(text)) return "is not valid";
  const url = new URL(text);
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const port = Number(url.port || (url.protocol === "https:" ? 443 : 80));
  const allowed = allowHosts.some((entry) => isHost(entry.toLowerCase(), url.hostname, host, port));
  if (!allowed) {
    if (!PORTS.includes(port)) return `must use one of the ports ${PORTS.join(", ")}`;
    if (isIP(host) === 0 ? !isPublicName(host) : !isPublicAddress(host)) return "must lead to a public address";
  }
  return { url, host, port, allowed };
}

/** Whether an entry of the operator's list (`host`, `host:port`, IPv6 with or without brackets) names this host. */
const isHost = (entry: string, hostname: string, host: string, port: number): boolean =>
  entry === hostname || entry === host || entry === `${hostname}:${port}`;

/** A single label or a trailing dot would be looked up in ways that depend on this machine's search list. */
const isPublicName = (host: string): boolean =>
  host.includes(".") &&
  !host.endsWith(".") &&
  !PRIVATE_NAMES.some((name) => host === name || host.endsWith(`.${name}`));
