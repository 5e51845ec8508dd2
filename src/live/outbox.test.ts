import { expect, test } from "bun:test";
import { parseToGateway } from "./frames.ts";
import { createOutbox } from "./outbox.ts";

/** Messages as their frames' numbers, in the order in which they left. */
function opened() {
  const messages: number[][] = [];
  const waits: (() => void)[] = [];
  const publish = (message: Uint8Array): void => {
    const numbers: number[] = [];
    expect(parseToGateway(message, ({ number }) => void numbers.push(number))).toBeTrue();
    messages.push(numbers);
    for (const wake of waits.splice(0)) wake();
  };
  let nowMs = 1_000;
  const outbox = createOutbox(publish, { monotonicMs: () => nowMs });
  return {
    messages,
    send: (number: number, isUrgent: boolean) => outbox.send("data", 1, number, 1, Buffer.from("x"), isUrgent),
    pass: (ms: number) => {
      nowMs += ms;
    },
    next: () => new Promise<void>((resolve) => void waits.push(resolve)),
  };
}

const turn = () => new Promise(setImmediate);

test("what is urgent leaves at once, with all that waits, and the rest of its turn after it", async () => {
  const { messages, send } = opened();
  send(0, true);
  expect(messages).toEqual([[0]]);
  send(1, false);
  send(2, true);
  await turn();
  expect(messages).toEqual([[0], [1, 2]]);
  send(3, false);
  send(4, true);
  expect(messages).toEqual([[0], [1, 2], [3, 4]]);
});

test("tokens leave at once where none has left for a millisecond, else together after it", async () => {
  const { messages, send, pass, next } = opened();
  send(0, false);
  expect(messages).toEqual([[0]]);
  await turn();
  send(1, false);
  await turn();
  send(2, false);
  expect(messages).toEqual([[0]]);
  await next();
  expect(messages).toEqual([[0], [1, 2]]);
  pass(1);
  send(3, false);
  expect(messages).toEqual([[0], [1, 2], [3]]);
});
