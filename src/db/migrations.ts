// The tables, as steps that are only ever added to. Names are unique over both lists: on a shared server both are one
// database.

export interface Migration {
  readonly name: string;
  readonly statements: readonly string[];
}

/** What is derived from the logs. */
export const readModelMigrations: readonly Migration[] = [
  {
    name: "0001-tasks",
    statements: [
      // One row a task. The columns up to `metadata` come from the log of jobs, the others from the log of results; a
      // row that has ended is final. `data` is the public task object of an ended one.
      `CREATE TABLE tasks (
        row_id INTEGER PRIMARY KEY,
        task_id TEXT NOT NULL UNIQUE,
        key_id TEXT NOT NULL,
        model TEXT NOT NULL,
        priority TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        metadata TEXT NOT NULL,
        status TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        cancel_sequence INTEGER,
        cancel_requested_ms INTEGER,
        finished_ms INTEGER,
        event_id TEXT,
        data TEXT,
        trimmed INTEGER NOT NULL DEFAULT 0
      )`,
      // How far each stream has been read into this database; written with the rows, in one transaction.
      "CREATE TABLE cursors (stream TEXT PRIMARY KEY, sequence INTEGER NOT NULL)",
    ],
  },
  {
    name: "0002-result-sequence",
    // Where the end stands in its log: the task may leave the log of jobs only when its end has left the log of results.
    statements: ["ALTER TABLE tasks ADD COLUMN result_sequence INTEGER"],
  },
];

/** What stands nowhere else. */
export const keptMigrations: readonly Migration[] = [];
