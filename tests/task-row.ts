// A row of a task as the read model has it, for tests of its queries.
import type { TaskRow } from "../src/tasks/store.ts";

/** Of a task that waits, unless `fields` say otherwise. */
export const openRow = (id: string, fields: Partial<TaskRow> = {}): TaskRow => ({
  id,
  key: "k",
  model: "echo",
  priority: "normal",
  createdMs: 1_000,
  metadata: "{}",
  dueMs: null,
  startByMs: null,
  status: "PENDING",
  attempt: 0,
  cancelSequence: null,
  cancelRequestedMs: null,
  finishedMs: null,
  eventId: null,
  data: null,
  resultSequence: null,
  inputBytes: null,
  inputText: null,
  errorText: null,
  retryOf: null,
  ...fields,
});
