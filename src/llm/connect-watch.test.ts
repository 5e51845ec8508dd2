import { afterEach, expect, test } from "bun:test";
import { isProxied, watchConnect } from "./connect-watch.ts";

const cleanup: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of cleanup.splice(0)) await stop();
});

/** A server that takes connections and says nothing, and when the first of them is over. */
function silent() {
  const closed = Promise.withResolvers<void>();
  const socket = { data: () => {}, close: () => closed.resolve() };
  const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket });
  cleanup.push(() => server.stop(true));
  return { port: server.port, closed: closed.promise };
}

function answering(tls?: Bun.TLSOptions): number {
  const server = Bun.serve({ hostname: "127.0.0.1", port: 0, ...(tls && { tls }), fetch: () => new Response() });
  cleanup.push(() => server.stop(true));
  return server.port ?? 0;
}

/** Watches with a limit of 100 ms; `failed` resolves when it gives the request up. */
function watch(baseUrl: string, environment: Readonly<Record<string, string>> = {}) {
  const failed = Promise.withResolvers<string>();
  const told: string[] = [];
  const limits = { connectMs: 100, firstTokenMs: 1, betweenTokensMs: 1, totalMs: 1 };
  const fail = (_code: string, message: string): void => {
    told.push(message);
    failed.resolve(message);
  };
  const stop = watchConnect(baseUrl, { limits, signal: new AbortController().signal, fail }, environment);
  cleanup.push(stop);
  return { failed: failed.promise, told, stop };
}

test("a server behind https that never says a word of TLS is given up, and its connection closed", async () => {
  const { port, closed } = silent();
  expect(await watch(`https://127.0.0.1:${port}/v1`).failed).toBe("The model server cannot be reached.");
  await closed;
});

test("one that can be reached, whatever its certificate, or refuses, is not given up", async () => {
  const tls = { key: KEY, cert: CERT };
  const watches = [
    watch(`http://127.0.0.1:${answering()}/v1`),
    watch(`https://127.0.0.1:${answering(tls)}/v1`),
    watch(`https://localhost:${answering(tls)}/v1`),
    watch(`https://127.0.0.1:${answering()}/v1`), // no TLS: fetch will say so
    watch("https://127.0.0.1:1/v1"),
    watch(`https://127.0.0.1:${silent().port}/v1`, { HTTPS_PROXY: "http://127.0.0.1:1" }),
  ];
  const stopped = watch(`https://127.0.0.1:${silent().port}/v1`);
  stopped.stop();
  // It began last, and its limit is the same.
  await watch(`https://127.0.0.1:${silent().port}/v1`).failed;
  expect([...watches, stopped].map(({ told }) => told)).toEqual(watches.map(() => []).concat([[]]));
});

const proxy = "http://proxy:3128";
test.each<[string, Readonly<Record<string, string>>, boolean]>([
  ["https://a.example/v1", {}, false],
  ["https://a.example/v1", { HTTPS_PROXY: proxy }, true],
  ["https://a.example/v1", { https_proxy: proxy }, true],
  ["https://a.example/v1", { HTTP_PROXY: proxy }, false],
  ["http://a.example/v1", { HTTP_PROXY: proxy }, true],
  ["https://a.example/v1", { HTTPS_PROXY: proxy, NO_PROXY: "b.example, example" }, false],
  ["https://a.example/v1", { HTTPS_PROXY: proxy, no_proxy: ".example" }, false],
  ["https://a.example/v1", { HTTPS_PROXY: proxy, NO_PROXY: "*" }, false],
  ["https://a.example/v1", { HTTPS_PROXY: proxy, NO_PROXY: "ample,," }, true],
])("%s with %j goes through a proxy: %j", (url, environment, expected) => {
  expect(isProxied(new URL(url), environment)).toBe(expected);
});

// A key pair for localhost, made for this file and used nowhere else.
const KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg3voRu614ru3oBrYf
Ig7ZbosWlHYSx1ZdfV3LHNaa6wOhRANCAAS9gJqjzO2qMA8FWbEWwQsNazjvbt9I
Og1o03At66UOPd4fZW9WKI3J7lHimCNSsFDDZYsiZ7FkffULSVnzQOLO
-----END PRIVATE KEY-----`;
const CERT = `-----BEGIN CERTIFICATE-----
MIIBfzCCASWgAwIBAgIUFuOusy/hzPPuUA976zbNqP5KQXAwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTEzMjU0M1oYDzIxMjYxMDI4
MTMyNTQzWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAS9gJqjzO2qMA8FWbEWwQsNazjvbt9IOg1o03At66UOPd4fZW9WKI3J
7lHimCNSsFDDZYsiZ7FkffULSVnzQOLOo1MwUTAdBgNVHQ4EFgQUOgr4JWH8bXQ3
QTcoqbXCyTzGvC0wHwYDVR0jBBgwFoAUOgr4JWH8bXQ3QTcoqbXCyTzGvC0wDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEAhrCTGMLutElOVOLQPUGD
WBO4mkxXOemnEsL1+ibhQUUCIDCrDU9VTbwvur86gU+f6lqggix/PTIXNODEc93U
77UP
-----END CERTIFICATE-----`;
