// The runner that answers what it was asked: for first steps, tests and benchmarks of everything but the model. It
// never touches a GPU, and it fails or waits only when the input says so.
import { defineRunner, RunnerError, t } from "millrace";

export default defineRunner({
  name: "echo",
  version: "1.0.0",
  summary: "Answers its input; can wait and fail on request.",
  input: t.Object({
    text: t.Optional(t.String({ maxLength: 1_000_000 })),
    prompt: t.Optional(t.String({ maxLength: 1_000_000 })),
    sleep_ms: t.Optional(
      t.Integer({ minimum: 0, maximum: 3_600_000, description: "Waits so long before it answers." }),
    ),
    fail_times: t.Optional(
      t.Integer({
        minimum: 0,
        maximum: 100,
        description: "Fails, worth another attempt, on the first so many attempts.",
      }),
    ),
  }),
  output: t.Object({ echo: t.Unknown() }),
  example: { text: "hello" },
  slots: 8,
  timeoutMs: 3_660_000,
  prepare: (input) => input,
  infer: (input, ctx) => {
    if (ctx.task.attempt <= (input.fail_times ?? 0)) {
      throw new RunnerError("echo_failed", `Attempt ${ctx.task.attempt} of ${input.fail_times} that were to fail`);
    }
    if (!input.sleep_ms) return input;
    return wait(input.sleep_ms, ctx.signal).then(() => input);
  },
  postprocess: (input) => ({ echo: input }),
});

/** Resolves after `ms`; rejects with the signal's reason as soon as it aborts. */
function wait(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const abort = (): void => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", abort);
      resolve();
    }, ms);
    signal.addEventListener("abort", abort, { once: true });
  });
}
