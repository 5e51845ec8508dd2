import { expect, test } from "bun:test";
import { refusal } from "./refusal.ts";

test("the broker's words are for logs: what a client reads names no path", () => {
  const description = "error creating store for consumer: mkdir /data/nats/x: no space left on device";
  const error = refusal("to make the queue normal_a_echo", { err_code: 10012, description });
  expect(error.message).toBe("the broker refused to make the queue normal_a_echo (10012)");
  expect(error).toMatchObject({ code: "broker_unavailable", retryAfterS: 1, cause: { message: description } });
});
