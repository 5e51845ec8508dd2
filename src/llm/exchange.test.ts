import { expect, test } from "bun:test";
import { systemClock } from "../clock.ts";
import { silentLog } from "../log.ts";
import { Exchange } from "./exchange.ts";
import { Watchdog } from "./watchdog.ts";

test.each<[string, string, string]>([
  ["ECONNREFUSED", "model_unavailable", "the model server cannot be reached"],
  ["ECONNRESET", "upstream_failed", "the model server broke off"],
])("%s is %s, and the log says so", (socketCode, code, message) => {
  const told: string[] = [];
  const watchdog = new Watchdog(systemClock);
  const exchange = new Exchange({
    signal: new AbortController().signal,
    deadlineMs: watchdog.now() + 1_000,
    limits: { connectMs: 1_000, firstTokenMs: 1_000, betweenTokensMs: 1_000, totalMs: 1_000 },
    thinkingMs: 1_000,
    watchdog,
    requestId: "r",
    url: "http://127.0.0.1:1/v1",
    log: { ...silentLog, warn: (_fields, text) => told.push(text) },
  });
  const reason = exchange.reason(Object.assign(new Error("no"), { code: socketCode }));
  exchange.close();
  expect(reason).toMatchObject({ code });
  expect(told).toEqual([message]);
});
