import { expect, test } from "bun:test";
import { clientAddress } from "./client-address.ts";

const trusted = ["10.0.0.0/8", "127.0.0.1", "fd00::/8"];

test.each([
  ["no proxy is trusted", "10.0.0.1", "203.0.113.9", [], "10.0.0.1"],
  ["the peer is no proxy of ours", "203.0.113.5", "203.0.113.9", trusted, "203.0.113.5"],
  ["the peer is one", "10.0.0.1", "203.0.113.9", trusted, "203.0.113.9"],
  ["it is one as IPv4 in IPv6", "::ffff:10.0.0.1", "203.0.113.9", trusted, "203.0.113.9"],
  ["it says nothing", "10.0.0.1", null, trusted, "10.0.0.1"],
  ["it says what is no address", "10.0.0.1", "unknown", trusted, "10.0.0.1"],
  ["the client wrote a list of its own", "10.0.0.1", "1.1.1.1, 2.2.2.2, 203.0.113.9", trusted, "203.0.113.9"],
  ["two proxies in a row", "127.0.0.1", "203.0.113.9,10.2.3.4", trusted, "203.0.113.9"],
  ["the client wrote our proxies", "10.0.0.1", "10.9.9.9,203.0.113.9,10.2.3.4", trusted, "203.0.113.9"],
  ["rubbish before a proxy of ours", "10.0.0.1", "rubbish,10.2.3.4", trusted, "10.2.3.4"],
  ["a request inside", "10.0.0.1", "10.2.3.4", trusted, "10.2.3.4"],
  ["IPv6", "fd00::1", "2001:db8::7", trusted, "2001:db8::7"],
  ["there is no socket", null, "203.0.113.9", trusted, null],
] as const)("%s", (_name, peer, forwarded, networks, address) => {
  expect(clientAddress(peer, forwarded, networks)).toBe(address);
});

test("a list without end is read at its right end only", () => {
  const long = `${"10.1.1.1,".repeat(5_000)}203.0.113.9,${"10.1.1.1,".repeat(20)}10.1.1.1`;
  expect(clientAddress("10.0.0.1", long, trusted)).toBe("10.1.1.1");
});
