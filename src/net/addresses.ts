// What an IP address says: whether it belongs to the public internet (public-url.ts and fetch-input.ts ask for every
// address that a user's URL leads to), whether it lies in given networks, and whose it is. It must never call an address
// public, or a part of a network, in doubt: what it cannot read is neither.
import { isIP } from "node:net";

/** IPv4 networks that are not public: the IANA special-purpose registry (RFC 6890), multicast and reserved space. */
const PRIVATE_V4 = [
  "0.0.0.0/8", // this network
  "10.0.0.0/8", // private (RFC 1918)
  "100.64.0.0/10", // carrier NAT (RFC 6598)
  "127.0.0.0/8", // loopback
  "168.63.129.16/32", // Azure's host, metadata and DNS, in public space
  "169.254.0.0/16", // link local; cloud metadata
  "172.16.0.0/12", // private
  "192.0.0.0/24", // protocol assignments; 192.0.0.192 is a metadata service
  "192.0.2.0/24", // documentation
  "192.88.99.0/24", // 6to4 relays
  "192.168.0.0/16", // private
  "198.18.0.0/15", // benchmarks
  "198.51.100.0/24", // documentation
  "203.0.113.0/24", // documentation
  "224.0.0.0/3", // multicast, reserved, broadcast
] as const;

/** IPv6: only 2000::/3 is global unicast, and of it not these. NAT64 (64:ff9b::/96), ULA and link local lie outside. */
const PRIVATE_V6 = [
  "2001::/23", // protocol assignments: Teredo, ORCHID, benchmarks
  "2001:db8::/32", // documentation
  "2002::/16", // 6to4 wraps any IPv4 address
  "3fff::/20", // documentation (RFC 9637)
] as const;

/**
 * Whether `address` (an IPv4 or IPv6 literal without brackets) is a public unicast address. IPv4 in IPv6
 * (`::ffff:a.b.c.d`) is judged as IPv4. False for anything else: a name, a zone (`fe80::1%eth0`), an empty string.
 */
export function isPublicAddress(address: string): boolean {
  const words = wordsOf(address);
  if (words === null) return false;
  if (words.length === 2) return !PRIVATE_V4.some((network) => isWithin(words, network));
  if (isWithin(words, "::ffff:0:0/96")) return !PRIVATE_V4.some((network) => isWithin(words.slice(6), network));
  return isWithin(words, "2000::/3") && !PRIVATE_V6.some((network) => isWithin(words, network));
}

/**
 * Whether `address` lies in one of `networks`: addresses, or networks such as `10.0.0.0/8` and `fd00::/8`. IPv4 in IPv6
 * is judged as IPv4.
 */
export function isInNetworks(address: string, networks: readonly string[]): boolean {
  const words = plainWordsOf(address);
  if (words === null) return false;
  return networks.some((network) => {
    const full = network.includes("/") ? network : `${network}/128`;
    return wordsOf(full.slice(0, full.indexOf("/")))?.length === words.length && isWithin(words, full);
  });
}

/** By whom a stranger is counted: an IPv4 address, the /64 that one household has of IPv6, or the text as it is. */
export function subscriberOf(address: string): string {
  const words = plainWordsOf(address);
  if (words === null) return address;
  if (words.length === 2) return words.flatMap((word) => [word >>> 8, word & 255]).join(".");
  return `${words
    .slice(0, 4)
    .map((word) => word.toString(16))
    .join(":")}::/64`;
}

/** IPv4 in IPv6 as IPv4. */
function plainWordsOf(address: string): number[] | null {
  const words = wordsOf(address);
  return words?.length === 8 && isWithin(words, "::ffff:0:0/96") ? words.slice(6) : words;
}

/** The address as 16-bit words: two for IPv4, eight for IPv6, null for what is neither. */
function wordsOf(address: string): number[] | null {
  switch (isIP(address)) {
    case 4: {
      const [a = 0, b = 0, c = 0, d = 0] = address.split(".").map(Number);
      return [(a << 8) | b, (c << 8) | d];
    }
    case 6:
      return address.includes("%") ? null : wordsOfV6(address);
    default:
      return null;
  }
}

/** `address` is valid IPv6 without a zone; at most one `::`, perhaps a dotted IPv4 tail. */
function wordsOfV6(address: string): number[] {
  const wordsIn = (part: string): number[] =>
    part === ""
      ? []
      : part.split(":").flatMap((word) => (word.includes(".") ? (wordsOf(word) ?? []) : [Number.parseInt(word, 16)]));
  const [head = "", tail] = address.split("::");
  if (tail === undefined) return wordsIn(head);
  const before = wordsIn(head);
  const after = wordsIn(tail);
  return [...before, ...new Array<number>(8 - before.length - after.length).fill(0), ...after];
}

function isWithin(words: readonly number[], network: string): boolean {
  const slash = network.indexOf("/");
  const base = wordsOf(network.slice(0, slash)) ?? [];
  let bits = Number(network.slice(slash + 1));
  for (let i = 0; bits > 0; i++, bits -= 16) {
    const mask = bits >= 16 ? 0xffff : (0xffff << (16 - bits)) & 0xffff;
    if (((words[i] ?? 0) & mask) !== ((base[i] ?? 0) & mask)) return false;
  }
  return true;
}
