// The tables, as steps that are only ever added to. Names are unique over all lists: on a shared server all are one
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
  {
    name: "0003-find",
    statements: [
      // What a search looks at, in lower case. `input_text` is null while the job has not been read.
      "ALTER TABLE tasks ADD COLUMN input_text TEXT",
      "ALTER TABLE tasks ADD COLUMN error_text TEXT",
      "ALTER TABLE tasks ADD COLUMN retry_of TEXT",
      // A key's tasks by age: every list reads it from the end, and new rows are appended there.
      "CREATE INDEX tasks_by_age ON tasks (key_id, created_ms, task_id)",
      // Most tasks succeed, and are written once: they cost nothing here. Open and failed ones are found at once.
      `CREATE INDEX tasks_without_success ON tasks (key_id, status, created_ms, task_id)
        WHERE status <> 'SUCCESS'`,
    ],
  },
  {
    name: "0004-times",
    // When a job that waits goes to its queue, and from when a task is not started any more. Both indexes hold what has
    // not ended only: a task that ends within a second of its start is never in them.
    statements: [
      "ALTER TABLE tasks ADD COLUMN due_ms BIGINT",
      "ALTER TABLE tasks ADD COLUMN start_by_ms BIGINT",
      "CREATE INDEX tasks_due ON tasks (due_ms) WHERE due_ms IS NOT NULL",
      "CREATE INDEX tasks_start_by ON tasks (start_by_ms) WHERE finished_ms IS NULL AND start_by_ms IS NOT NULL",
    ],
  },
  {
    name: "0005-times-in-order",
    // The sweep reads page by page: many tasks may share a latest start.
    statements: [
      "DROP INDEX tasks_start_by",
      `CREATE INDEX tasks_start_by ON tasks (start_by_ms, task_id)
        WHERE finished_ms IS NULL AND start_by_ms IS NOT NULL`,
    ],
  },
  {
    name: "0006-open",
    // What each key has open, counted without a look at the rows. Few tasks are ever in it: one that ends within a
    // second of its start is written when it has ended.
    statements: [
      "ALTER TABLE tasks ADD COLUMN input_bytes BIGINT",
      "CREATE INDEX tasks_open ON tasks (key_id, model, priority, due_ms, input_bytes) WHERE finished_ms IS NULL",
    ],
  },
  {
    name: "0007-open-covered",
    // SQLite looks at the rows all the same where the index lacks what its own condition speaks of.
    statements: [
      "DROP INDEX tasks_open",
      `CREATE INDEX tasks_open ON tasks (key_id, model, priority, due_ms, input_bytes, finished_ms)
        WHERE finished_ms IS NULL`,
    ],
  },
];

/** What stands nowhere else. */
export const keptMigrations: readonly Migration[] = [
  {
    name: "kept-files",
    statements: [
      // What a client uploaded; the bytes are in the object store. Ids sort by the time of the upload.
      `CREATE TABLE files (
        file_id TEXT PRIMARY KEY,
        key_id TEXT NOT NULL,
        filename TEXT NOT NULL,
        purpose TEXT NOT NULL,
        content_type TEXT NOT NULL,
        size_bytes BIGINT NOT NULL,
        sha256 TEXT NOT NULL,
        created_ms BIGINT NOT NULL,
        expires_ms BIGINT NOT NULL
      )`,
      "CREATE INDEX files_of_key ON files (key_id, file_id)",
      "CREATE INDEX files_by_expiry ON files (expires_ms)",
    ],
  },
  {
    name: "kept-keys",
    statements: [
      // Digests are SHA-256 in hexadecimal; scopes are parted by blanks. See src/keys/store.ts.
      `CREATE TABLE api_keys (
        id TEXT PRIMARY KEY,
        env TEXT NOT NULL,
        name TEXT NOT NULL,
        scopes TEXT NOT NULL,
        digest TEXT NOT NULL,
        previous_digest TEXT,
        previous_until_ms BIGINT,
        rate_per_minute BIGINT,
        created_ms BIGINT NOT NULL,
        expires_ms BIGINT,
        revoked_ms BIGINT
      )`,
      "CREATE TABLE api_keys_revision (name TEXT PRIMARY KEY, revision BIGINT NOT NULL)",
      "INSERT INTO api_keys_revision (name, revision) VALUES ('api_keys', 0)",
    ],
  },
  {
    name: "webhooks-0001",
    statements: [
      // One row an end that is to be told; `body` is what is sent, byte for byte, on every attempt. A process that works
      // on a row holds its lease; `tries` counts the attempts of this round, which a redelivery by hand begins anew.
      `CREATE TABLE deliveries (
        delivery_id TEXT PRIMARY KEY,
        task_id TEXT NOT NULL,
        key_id TEXT NOT NULL,
        event TEXT NOT NULL,
        url TEXT NOT NULL,
        host TEXT NOT NULL,
        body TEXT NOT NULL,
        created_ms BIGINT NOT NULL,
        state TEXT NOT NULL,
        tries BIGINT NOT NULL,
        next_ms BIGINT,
        lease TEXT NOT NULL,
        lease_until_ms BIGINT NOT NULL
      )`,
      "CREATE INDEX deliveries_due ON deliveries (next_ms) WHERE state = 'pending'",
      "CREATE INDEX deliveries_task ON deliveries (task_id)",
      "CREATE INDEX deliveries_created ON deliveries (created_ms)",
      `CREATE TABLE delivery_attempts (
        delivery_id TEXT NOT NULL,
        at_ms BIGINT NOT NULL,
        duration_ms BIGINT NOT NULL,
        status BIGINT,
        error TEXT,
        PRIMARY KEY (delivery_id, at_ms)
      )`,
      // How far each log of results has been looked through; written with the rows, in one transaction.
      "CREATE TABLE webhook_cursors (stream TEXT PRIMARY KEY, sequence BIGINT NOT NULL)",
      // How often a key has rotated its signing secret, and when last. The secrets are derived.
      "CREATE TABLE webhook_secrets (key_id TEXT PRIMARY KEY, generation BIGINT NOT NULL, rotated_ms BIGINT NOT NULL)",
    ],
  },
  {
    name: "kept-schedules",
    statements: [
      `CREATE TABLE schedules (
        schedule_id TEXT PRIMARY KEY,
        key_id TEXT NOT NULL,
        name TEXT,
        cron TEXT NOT NULL,
        timezone TEXT NOT NULL,
        task TEXT NOT NULL,
        created_ms BIGINT NOT NULL,
        next_ms BIGINT,
        last_ms BIGINT,
        last_task_id TEXT,
        last_error TEXT
      )`,
      "CREATE INDEX schedules_by_key ON schedules (key_id, schedule_id)",
      "CREATE INDEX schedules_due ON schedules (next_ms, schedule_id)",
    ],
  },
  {
    name: "kept-settings",
    // Facts of this installation that are made once.
    statements: ["CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL)"],
  },
  {
    name: "webhooks-0002",
    // Holds all that the search for due deliveries looks at: with 100,000 due ones of a host that takes no more at once,
    // a search took 106 ms without it and takes 18.
    statements: [
      "DROP INDEX deliveries_due",
      `CREATE INDEX deliveries_due ON deliveries (next_ms, host, key_id, lease_until_ms, delivery_id)
        WHERE state = 'pending'`,
    ],
  },
  {
    name: "kept-keys-2",
    statements: ["ALTER TABLE api_keys ADD COLUMN tokens_per_day BIGINT"],
  },
];

/** What gateways count together and may lose. */
export const usageMigrations: readonly Migration[] = [
  {
    name: "usage-1",
    statements: [
      "CREATE TABLE key_usage (key_id TEXT PRIMARY KEY, last_used_ms BIGINT NOT NULL)",
      // The requests of a key in its present minute that gateways have taken as their shares.
      "CREATE TABLE rate_windows (key_id TEXT PRIMARY KEY, started_ms BIGINT NOT NULL, leased BIGINT NOT NULL)",
    ],
  },
  {
    name: "usage-2",
    statements: [
      // Calls of language models and their tokens, by the UTC hour in which they ended. `model` is an id of the
      // catalogue, `cached_tokens` are among the prompt's.
      `CREATE TABLE token_usage (
        key_id TEXT NOT NULL,
        hour_ms BIGINT NOT NULL,
        model TEXT NOT NULL,
        provider TEXT NOT NULL,
        requests BIGINT NOT NULL,
        prompt_tokens BIGINT NOT NULL,
        completion_tokens BIGINT NOT NULL,
        cached_tokens BIGINT NOT NULL,
        PRIMARY KEY (key_id, hour_ms, model, provider)
      )`,
      "CREATE INDEX token_usage_by_hour ON token_usage (hour_ms)",
      // Batches that have been counted, lest one that was sent again be counted twice.
      "CREATE TABLE usage_batches (batch_id TEXT PRIMARY KEY, counted_ms BIGINT NOT NULL)",
      "CREATE INDEX usage_batches_by_age ON usage_batches (counted_ms)",
      // The tokens of a key in a UTC day that gateways have taken; `granted` is what the last of them got.
      `CREATE TABLE token_days (
        key_id TEXT PRIMARY KEY,
        day_ms BIGINT NOT NULL,
        leased BIGINT NOT NULL,
        granted BIGINT NOT NULL,
        day_limit BIGINT NOT NULL
      )`,
    ],
  },
  {
    name: "usage-3",
    statements: [
      // Gateways that have taken tokens, each with a number that it raises while it lives; and what each of them has not
      // used yet of a key's day.
      "CREATE TABLE token_holders (holder TEXT PRIMARY KEY, beat BIGINT NOT NULL)",
      `CREATE TABLE token_leases (
        holder TEXT NOT NULL,
        key_id TEXT NOT NULL,
        day_ms BIGINT NOT NULL,
        tokens BIGINT NOT NULL,
        PRIMARY KEY (holder, key_id)
      )`,
    ],
  },
];
