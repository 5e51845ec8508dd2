import { describe, expect, test } from "bun:test";
import { BlockList, isIP } from "node:net";
import fc from "fast-check";
import { isInNetworks, isPublicAddress, subscriberOf } from "./addresses.ts";

const dotted = (value: number): string => [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join(".");
const v4 = fc.integer({ min: 0, max: 0xffffffff }).map(dotted);
/** Addresses that the URL parser reads too: WebKit's refuses some valid forms such as `1:2:3:4::1.2.3.4`. */
const v6 = fc.ipV6().filter((address) => isIP(address) === 6 && URL.canParse(`http://[${address}]/`));

/** The same networks by another implementation: Node's own. */
const oracle = new BlockList();
for (const [base, bits] of [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  ["168.63.129.16", 32],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.0.2.0", 24],
  ["192.88.99.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["198.51.100.0", 24],
  ["203.0.113.0", 24],
  ["224.0.0.0", 3],
] as const) {
  oracle.addSubnet(base, bits, "ipv4");
}

describe("isPublicAddress", () => {
  test.each([
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.15",
    "168.63.129.17",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2001:200::",
    "2001:4860:4860::8888",
    "2003::1",
    "3ffe::",
    "::ffff:8.8.8.8",
    "::ffff:808:808",
  ])("%s is public", (address) => {
    expect(isPublicAddress(address)).toBe(true);
  });

  test.each([
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.31.255.255",
    "192.0.0.192",
    "192.168.1.1",
    "198.19.255.255",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::FFFF:7f00:1",
    "::ffff:169.254.169.254",
    "64:ff9b::8.8.8.8",
    "64:ff9b:1::1",
    "100::1",
    "1fff:ffff::",
    "2001::1",
    "2001:1ff::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "3fff:fff::1",
    "4000::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700::1%eth0",
    "ff02::1",
    "",
    "localhost",
    "1.1.1",
    "0x7f.1",
    "[2606:4700::1]",
    " 1.1.1.1",
  ])("%p is not public", (address) => {
    expect(isPublicAddress(address)).toBe(false);
  });

  test("IPv4 agrees with Node's BlockList, alone and mapped into IPv6", () => {
    fc.assert(
      fc.property(v4, (address) => {
        const isPublic = !oracle.check(address, "ipv4");
        expect(isPublicAddress(address)).toBe(isPublic);
        expect(isPublicAddress(`::ffff:${address}`)).toBe(isPublic);
      }),
      { numRuns: 2_000 },
    );
  });

  test("an IPv4 address inside NAT64, 6to4 or Teredo is never public", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffffffff }), (value) => {
        const words = `${(value >>> 16).toString(16)}:${(value & 0xffff).toString(16)}`;
        for (const address of [`64:ff9b::${dotted(value)}`, `2002:${words}::1`, `2001:0:${words}::1`]) {
          expect(isPublicAddress(address)).toBe(false);
        }
      }),
    );
  });

  test("outside 2000::/3 nothing is public but mapped IPv4, and how it is written does not matter", () => {
    fc.assert(
      fc.property(v6, (address) => {
        const canonical = new URL(`http://[${address}]/`).hostname.slice(1, -1);
        expect(isPublicAddress(canonical)).toBe(isPublicAddress(address));
        expect(isPublicAddress(address.toUpperCase())).toBe(isPublicAddress(address));
        if (!/^[23][0-9a-f]{3}:/.test(canonical) && !canonical.startsWith("::ffff:")) {
          expect(isPublicAddress(address)).toBe(false);
        }
      }),
      { numRuns: 1_000 },
    );
  });
});

test("an address lies in a network of its own family, as Node's list says", () => {
  const network = fc.oneof(fc.tuple(v4, fc.nat(32)), fc.tuple(v6, fc.nat(128)));
  fc.assert(
    fc.property(fc.oneof(v4, v6), network, (address, [base, bits]) => {
      const family = (text: string) => (isIP(text) === 4 ? "ipv4" : "ipv6");
      if (/^::ffff:|^0*:0*:0*:0*:0*:ffff:/.test(address + base)) return; // the list and we differ where v4 is in v6
      const list = new BlockList();
      list.addSubnet(base, bits, family(base));
      const near = bits > 0 ? base : address;
      for (const one of [address, near]) {
        const expected = family(one) === family(base) && list.check(one, family(one));
        expect([one, isInNetworks(one, [`${base}/${bits}`])]).toEqual([one, expected]);
      }
      expect(isInNetworks(base, [base])).toBe(true);
    }),
  );
  expect(isInNetworks("::ffff:10.0.0.1", ["10.0.0.0/8"])).toBe(true);
  expect(isInNetworks("unknown", ["0.0.0.0/0", "::/0"])).toBe(false);
  expect(isInNetworks("10.0.0.1", [])).toBe(false);
});

test("who has an address: itself in IPv4, its /64 in IPv6", () => {
  expect(subscriberOf("203.0.113.9")).toBe("203.0.113.9");
  expect(subscriberOf("::ffff:203.0.113.9")).toBe("203.0.113.9");
  expect(subscriberOf("2001:db8:0:2:3:4:5:6")).toBe("2001:db8:0:2::/64");
  expect(subscriberOf("2001:db8::1")).toBe("2001:db8:0:0::/64");
  expect(subscriberOf("nonsense")).toBe("nonsense");
});
