// How single settings are written: from their text to their value, or to what is wrong with it. Called by config.ts for
// the environment, and where another file holds the same kinds of values. No value is ever part of a message.
import { isIP } from "node:net";

export interface ApiKey {
  /** Names the key in logs and owns its tasks; the part before the colon, else a digest of the key. */
  readonly id: string;
  readonly secret: string;
}

export const API_KEY = /^[\x21-\x7e]{1,256}$/;

/** No machine has more, and each is a process. */
export const GPUS_MAX = 64;

/** `90s`, `15m`, `24h`, `30d` or plain seconds, as milliseconds; null when it is none of these. */
export function parseDurationMs(value: string): number | null {
  const match = /^(\d{1,9})(ms|s|m|h|d)?$/.exec(value);
  if (!match) return null;
  const unitMs = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }[match[2] ?? "s"];
  return Number(match[1]) * (unitMs ?? 1_000);
}

export const list = (value: string | null): string[] =>
  (value ?? "")
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");

export type Report = (name: string, message: string) => void;

export function parseApiKeys(value: string | null, problem: Report): ApiKey[] {
  const keys: ApiKey[] = [];
  for (const [index, entry] of list(value).entries()) {
    const colon = entry.indexOf(":");
    const secret = colon < 0 ? entry : entry.slice(colon + 1);
    const id =
      colon < 0
        ? `key-${new Bun.CryptoHasher("sha256").update(secret).digest("hex").slice(0, 8)}`
        : entry.slice(0, colon);
    // By its place and not by its name: what stands before the colon may be a part of a key without a name.
    const refuse = (why: string): void => problem("API_KEYS", `entry ${index + 1}: ${why}`);
    if (!/^[A-Za-z0-9_-]{1,64}$/.test(id)) refuse("a name must be 1 to 64 letters, digits, _ or -");
    else if (id.startsWith("mr_")) refuse("a name must not begin with mr_, as the ids of stored keys do");
    else if (!API_KEY.test(secret)) refuse("a key must be 1 to 256 visible ASCII characters");
    else if (keys.some((key) => key.id === id)) refuse("its name stands twice");
    else if (keys.some((key) => key.secret === secret)) refuse("its key stands twice");
    else keys.push({ id, secret });
  }
  return keys;
}

/** Whole origins and nothing else: a pattern or `null` would let in pages that nobody named. */
export function parseOrigins(origins: readonly string[], problem: Report): string[] {
  const isOrigin = (text: string): boolean =>
    /^https?:\/\/[a-z0-9.[\]:-]+$/.test(text) && URL.parse(text)?.origin === text;
  for (const [index, text] of origins.entries()) {
    if (!isOrigin(text)) {
      problem(
        "CORS_ORIGINS",
        `entry ${index + 1} must be an origin such as https://app.example.com, without a path or *`,
      );
    }
  }
  return [...new Set(origins)];
}

/** Also as SQLAlchemy writes it, with the name of a driver. */
export function parseDatabaseUrl(value: string | null, problem: Report): string | null {
  if (value === null) return null;
  const url = value.replace(/^postgres(ql)?(\+\w+)?:\/\//, "postgres://");
  if (!url.startsWith("postgres://") || !URL.canParse(url)) {
    problem("DATABASE_URL", "must be postgres://USER:PASSWORD@HOST:PORT/DATABASE");
    return null;
  }
  return url;
}

/** IP addresses, and networks with the length of their prefix. */
export function parseNetworks(name: string, value: string | null, problem: Report): string[] {
  const networks = list(value);
  const isNetwork = (network: string): boolean => {
    const [, address = "", bits] = /^([^/%]+)(?:\/(\d{1,3}))?$/.exec(network) ?? [];
    return isIP(address) > 0 && Number(bits ?? 0) <= (isIP(address) === 4 ? 32 : 128);
  };
  if (!networks.every(isNetwork)) problem(name, "must be addresses or networks such as 10.0.0.1,10.1.0.0/16,fd00::/8");
  return networks;
}

export const BASE_URL_PROBLEM = "must be an http or https URL such as http://127.0.0.1:8001/v1, without a key in it";

/** The URL without a slash at its end, with `/v1` where it has no path; null where it is none. `{gpu}` and `{port}` stay. */
export function normalBaseUrl(text: string): string | null {
  const url = URL.parse(text.replaceAll(/\{(gpu|port)\}/g, "1"));
  if (url === null || !/^https?:$/.test(url.protocol)) return null;
  if (url.username || url.password || url.search || url.hash) return null;
  const bare = text.replace(/\/+$/, "");
  return url.pathname === "/" ? `${bare}/v1` : bare;
}

export function parseGpuIds(value: string | null, problem: Report): string[] {
  const ids = list(value ?? "0");
  if (ids.length === 0) problem("GPU_IDS", "must name at least one GPU");
  if (ids.length > GPUS_MAX) problem("GPU_IDS", `must name at most ${GPUS_MAX} GPUs`);
  if (ids.some((id) => !/^[A-Za-z0-9-]{1,64}$/.test(id))) problem("GPU_IDS", "must be ids such as 0,1 or GPU-<uuid>");
  if (new Set(ids).size !== ids.length) problem("GPU_IDS", "must not name a GPU twice");
  return ids;
}
