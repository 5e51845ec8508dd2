// Where a request comes from: the peer of its socket or, where that is a proxy of TRUSTED_PROXIES, what the proxy wrote
// into X-Forwarded-For. The gate asks when a key was wrong. What a client writes into that header itself is never
// believed: the list is read from its right end, and only as far as the trusted proxies go.
import { isIP } from "node:net";
import { isInNetworks } from "../net/addresses.ts";

/** Proxies in a row; what stands before them is the client's word. */
const proxiesMax = 16;

/**
 * The address of the client, or null where nothing is known (a request that came without a socket). `trusted` holds
 * addresses and networks (`10.0.0.0/8`).
 */
export function clientAddress(
  peer: string | null,
  forwardedFor: string | null,
  trusted: readonly string[],
): string | null {
  if (peer === null || forwardedFor === null || !isInNetworks(peer, trusted)) return peer;
  const hops = forwardedFor.split(",").slice(-proxiesMax).reverse();
  let address = peer;
  for (const hop of hops) {
    const given = hop.trim();
    if (isIP(given) === 0) return address; // no address: whoever wrote this is the last that is known
    address = given;
    if (!isInNetworks(address, trusted)) return address;
  }
  return address;
}
