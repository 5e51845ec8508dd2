import { expect, test } from "bun:test";
import { testRunner } from "millrace/testing";
import echo from "./echo.ts";

test("answers its input", async () => {
  const input = { text: "a", prompt: "b" };
  expect((await testRunner(echo, { input })).output).toEqual({ echo: input });
});

test("fails so many times, then answers", async () => {
  const input = { fail_times: 2 };
  for (const attempt of [1, 2]) {
    await expect(testRunner(echo, { input, attempt })).rejects.toMatchObject({ code: "echo_failed", retryable: true });
  }
  expect((await testRunner(echo, { input, attempt: 3 })).output).toEqual({ echo: input });
});

test("waits, and stops waiting when it is told to", async () => {
  const waited = await testRunner(echo, { input: { sleep_ms: 20 } });
  expect(waited.timing.inferMs).toBeGreaterThanOrEqual(19);

  const controller = new AbortController();
  const { signal } = controller;
  // Whoever listens to the signal has begun to wait.
  const listen = signal.addEventListener.bind(signal);
  let listened = false;
  signal.addEventListener = (...listener: Parameters<typeof listen>) => {
    listened = true;
    listen(...listener);
    queueMicrotask(() => controller.abort());
  };
  const running = testRunner(echo, { input: { sleep_ms: 3_600_000 }, signal });
  await expect(running).rejects.toMatchObject({ code: "aborted" });
  expect(listened).toBe(true);
});

test("takes no field that it does not know", async () => {
  await expect(testRunner(echo, { input: { txt: "a" } })).rejects.toMatchObject({ code: "invalid_input" });
});
