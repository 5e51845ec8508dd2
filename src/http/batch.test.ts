// What a batch does to the others: its items alone are tested on the whole product (tests/queues.test.ts).
import { expect, test } from "bun:test";
import { jsonPost, knownTaskId, startFixture } from "./server-fixture.ts";

test("items that wait for nothing do not hold the event loop until the last", async () => {
  let turn = 0;
  const timer = setInterval(() => turn++);
  const turns = new Set<number>();
  await using server = await startFixture({
    tasks: {
      async accept() {
        for (const endMs = performance.now() + 1; performance.now() < endMs; );
        turns.add(turn);
        return { taskId: knownTaskId, status: "PENDING", replayed: false };
      },
    },
  });
  const tasks = Array.from({ length: 100 }, () => ({ model: "echo", input: {} }));
  const answer = await (await server.send("/v1/tasks/batch", jsonPost({ tasks }))).json();
  clearInterval(timer);
  expect(answer).toMatchObject({ accepted: 100, refused: 0 });
  expect(turns.size).toBeGreaterThan(3);
});
