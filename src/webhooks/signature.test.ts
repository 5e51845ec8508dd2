import { expect, test } from "bun:test";
import fc from "fast-check";
import { Webhook } from "standardwebhooks";
import { keySecret, secretText, signedHeaders } from "./signature.ts";

const root = "an operator's secret of some length";

test("any body is verified by the official library with each of the secrets, and with no other", () => {
  fc.assert(
    fc.property(fc.json(), fc.uniqueArray(fc.nat({ max: 50 }), { minLength: 1, maxLength: 4 }), (body, generations) => {
      const secrets = generations.map((generation) => keySecret(root, "web", generation));
      const headers = signedHeaders(secrets, "01jd5w3v9m7k2q4x8n6t0r5y1z_mi8xk3pc_completed", Date.now(), body);
      for (const secret of secrets) {
        expect(new Webhook(secretText(secret)).verify(body, headers)).toEqual(JSON.parse(body));
      }
      expect(() => new Webhook(secretText(keySecret(root, "web", 51))).verify(body, headers)).toThrow();
      expect(() => new Webhook(secretText(secrets[0] ?? new Uint8Array())).verify(`${body} `, headers)).toThrow();
    }),
    { numRuns: 30 },
  );
});

test("an old timestamp is refused by the official library: a copy cannot be sent again later", () => {
  const secret = keySecret(root, "web", 0);
  const headers = signedHeaders([secret], "id", Date.now() - 6 * 60_000, "{}");
  expect(() => new Webhook(secretText(secret)).verify("{}", headers)).toThrow("old");
});

test("a secret is of its operator, its key and its generation, 32 bytes, and stays what it is", () => {
  const all = [
    keySecret(root, "web", 0),
    keySecret(root, "web", 1),
    keySecret(root, "batch", 0),
    keySecret(`${root}.`, "web", 0),
  ].map(secretText);
  expect(new Set(all).size).toBe(4);
  expect(all.every((text) => /^whsec_[A-Za-z0-9+/]{43}=$/.test(text))).toBe(true);
  // Receivers hold these: another value here breaks every one of them.
  expect(all[0]).toBe("whsec_LpWRyokzSM78ZbN2d3doCcFwX2n7i2oi0DDZQ1nLmZ8=");
});
