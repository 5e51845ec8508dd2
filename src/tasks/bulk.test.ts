import { expect, test } from "bun:test";
import { AppError } from "../errors.ts";
import { createBulk } from "./bulk.ts";
import type { Position } from "./filter.ts";
import type { Page } from "./find.ts";
import type { ListedRow } from "./listing.ts";

const owner = { keyId: "alice" };
const never = new AbortController().signal;
const place = (n: number): Position => ({ createdMs: 1_000 - n, taskId: `task-${n}` });

/** A bulk retry over `count` failed tasks; `fail` says how the nth ends. More tasks follow these. */
function bulkOf(count: number, fail: (n: number) => AppError | null) {
  const tried: string[] = [];
  const items = Array.from({ length: count }, (_, n): ListedRow => ({ ...place(n), status: "FAILURE", data: "{}" }));
  const page: Page<ListedRow> = { items, next: place(count) };
  const bulk = createBulk(
    { rows: async () => page, tasks: async () => ({ items: [], next: null }) },
    { cancel: async () => ({ status: "PENDING", cancelRequestedAt: "" }) },
    async (taskId) => {
      tried.push(taskId);
      const error = fail(Number(taskId.slice("task-".length)));
      if (error) throw error;
      return { taskId: `${taskId}-again`, status: "PENDING", replayed: false };
    },
  );
  return {
    tried,
    run: (signal = never, after: Position | null = null) => bulk.retry(owner, {}, after, 100, null, signal),
  };
}
const thrown = (work: Promise<unknown>): Promise<unknown> => work.catch((error: unknown) => error);

test("a task that cannot be retried is told, and the others are done", async () => {
  const { run } = bulkOf(40, (n) => (n % 20 === 3 ? new AppError("input_expired", "gone") : null));
  const { items, next } = await run();
  expect(items.map((item) => item.taskId)).toEqual(Array.from({ length: 40 }, (_, n) => `task-${n}`));
  expect(items.filter((item) => item.outcome === "failed")).toEqual([
    { taskId: "task-3", outcome: "failed", code: "input_expired" },
    { taskId: "task-23", outcome: "failed", code: "input_expired" },
  ]);
  expect(next).toEqual(place(40));
});

test("it stops where something may work later, and goes on from there", async () => {
  const full = new AppError("queue_full", "full", { retryAfterS: 5 });
  const { run, tried } = bulkOf(80, (n) => (n === 20 ? full : null));
  const { items, next } = await run();
  expect(items).toHaveLength(20);
  expect(next).toEqual(expect.objectContaining(place(19)));
  expect(tried.length).toBeLessThan(80); // those that ran beside it are done twice, which does no harm
  expect(await thrown(bulkOf(5, () => full).run())).toBe(full);
});

test("a gateway that stops says so, and does not say that all is done", async () => {
  const { run, tried } = bulkOf(5, () => null);
  expect(await thrown(run(AbortSignal.abort()))).toMatchObject({ code: "not_ready" });
  expect(tried).toEqual([]);
  const stopping = new AbortController();
  const long = bulkOf(80, (n) => {
    if (n === 15) stopping.abort();
    return null;
  });
  const { items, next } = await long.run(stopping.signal);
  expect(items).toHaveLength(16);
  expect(next).toEqual(expect.objectContaining(place(15)));
});

test("what is no failure of a task is not taken for one", async () => {
  const broken = new TypeError("a fault of ours");
  expect(await thrown(bulkOf(3, () => broken as AppError).run())).toBe(broken);
});
