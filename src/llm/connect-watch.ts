// The time limit of a connection to a model server: fetch does not tell when it is connected, and by itself waits for
// the kernel's two minutes. upstream.ts watches by it a server that it has not heard of for a while. It sends nothing.
import { isIP } from "node:net";
import { type Exchange, UNREACHED } from "./exchange.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Gives the request up where the server takes no connection (with `https:` one of TLS) within the provider's
 * `connectMs`: a second connection is tried beside it. The returned function ends the watch. Behind a proxy of the
 * environment nothing is watched: the way to the server is the proxy's.
 */
export function watchConnect(
  baseUrl: string,
  exchange: Pick<Exchange, "limits" | "signal" | "fail">,
  environment: Environment = process.env,
): () => void {
  const url = new URL(baseUrl);
  const { protocol, hostname, port } = url;
  if (isProxied(url, environment)) return () => {};
  const host = hostname.replace(/^\[|\]$/g, "");
  let tried: Bun.Socket | null = null;
  let over = false;
  const end = (): void => {
    over = true;
    clearTimeout(timer);
    tried?.terminate();
  };
  const timer = setTimeout(() => {
    exchange.fail("model_unavailable", UNREACHED);
    end();
  }, exchange.limits.connectMs);
  exchange.signal.addEventListener("abort", end, { once: true });
  const isSecure = protocol === "https:";
  const open = (socket: Bun.Socket): void => {
    tried = socket;
    if (over || !isSecure) end();
  };
  Bun.connect({
    hostname: host,
    port: Number(port || (isSecure ? 443 : 80)),
    // Whether its certificate is good is for the request itself to find out.
    ...(isSecure && { tls: { rejectUnauthorized: false, ...(isIP(host) === 0 && { serverName: host }) } }),
    socket: { open, handshake: end, data: () => {} },
  }).catch(end); // the request meets the same, and says what
  return end;
}

/** Whether fetch would send it through a proxy of the environment. In doubt it would. */
export function isProxied({ protocol, hostname }: URL, environment: Environment): boolean {
  const read = (name: string): string => environment[name] || environment[name.toLowerCase()] || "";
  if (read(protocol === "https:" ? "HTTPS_PROXY" : "HTTP_PROXY") === "") return false;
  const exempt = read("NO_PROXY").split(",");
  return !exempt.some((entry) => {
    const name = entry.trim().replace(/^\./, "");
    return name === "*" || name === hostname || (name !== "" && hostname.endsWith(`.${name}`));
  });
}
