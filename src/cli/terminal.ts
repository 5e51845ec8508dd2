// Tasks as text for a terminal: a task, a list, the line that shows its progress. What a client, a model or a plugin said
// is a stranger's text here: it must never reach the terminal with control characters in it.
import type { TaskEvent } from "./events.ts";

/** The fields of the API that are shown. */
export interface ShownTask {
  readonly task_id: string;
  readonly status: string;
  readonly model: string;
  readonly priority: string;
  readonly attempt: number;
  readonly actor?: { readonly id: string; readonly gpu: string } | null;
  readonly timing?: Readonly<Record<string, number>> | null;
  readonly result?: unknown;
  readonly error?: { readonly code: string; readonly message: string; readonly stage: string };
  readonly created_at: string;
  readonly finished_at?: string;
  readonly queue_position?: number;
  readonly eta_ms?: number;
  readonly metadata?: Readonly<Record<string, string>>;
}

/** A result is shown up to here; all of it is in the JSON. */
const resultCharsMax = 2_000;

/** Text of a stranger on one line: control and format characters (C0, C1, bidirectional) become spaces. */
export const plain = (text: string): string => text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, " ");

/** JSON text as it may go to a terminal: JSON escapes C0 itself, and leaves the rest. */
export const plainJson = (json: string): string =>
  json.replace(/[\x7f-\x9f\p{Cf}\p{Zl}\p{Zp}]/gu, (character) =>
    Array.from(
      { length: character.length },
      (_, i) => `\\u${character.charCodeAt(i).toString(16).padStart(4, "0")}`,
    ).join(""),
  );

const rounded = (ms: number): string => (ms >= 10_000 ? `${(ms / 1_000).toFixed(1)} s` : `${Math.round(ms)} ms`);

/** A task on a few lines. */
export function taskText(task: ShownTask): string {
  const { actor, timing, error, metadata = {} } = task;
  const rows: [string, string][] = [
    ["model", `${task.model}, ${task.priority}`],
    ["created", task.created_at],
  ];
  if (task.queue_position !== undefined) rows.push(["queue", `position ${task.queue_position}`]);
  if (task.eta_ms !== undefined) rows.push(["ends in", rounded(task.eta_ms)]);
  if (task.attempt > 0) rows.push(["attempt", `${task.attempt}${actor ? ` on ${actor.id}, GPU ${actor.gpu}` : ""}`]);
  if (timing) {
    const stages = Object.entries(timing).map(([name, ms]) => `${name.replace(/_ms$/, "")} ${rounded(ms)}`);
    rows.push(["time", stages.join(", ")]);
  }
  if (error) rows.push(["error", `${error.code} in ${error.stage}: ${error.message}`]);
  if (task.result !== undefined) rows.push(["result", cut(JSON.stringify(task.result))]);
  const pairs = Object.entries(metadata).map(([name, value]) => `${name}=${value}`);
  if (pairs.length > 0) rows.push(["metadata", pairs.join(", ")]);
  const lines = rows.map(([name, value]) => `  ${name.padEnd(10)}${plain(value)}\n`);
  return `${plain(task.task_id)}  ${plain(task.status)}\n${lines.join("")}`;
}

const cut = (json: string): string =>
  json.length <= resultCharsMax
    ? json
    : `${json.slice(0, resultCharsMax)}… (${json.length} characters; --json shows all)`;

/** Tasks as a table. */
export function listText(tasks: readonly ShownTask[], nextCursor: string | null): string {
  if (tasks.length === 0) return "no tasks\n";
  const head = ["task_id", "status", "model", "priority", "attempt", "created", "took"];
  const rows = tasks.map((task) => [
    task.task_id,
    task.status,
    task.model,
    task.priority,
    String(task.attempt),
    task.created_at,
    task.timing?.total_ms === undefined ? "" : rounded(task.timing.total_ms),
  ]);
  const all = [head, ...rows].map((row) => row.map(plain));
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  const lines = all.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd(),
  );
  const more = nextCursor === null ? "" : `\nmore: --cursor ${plain(nextCursor)}\n`;
  return `${lines.join("\n")}\n${more}`;
}

/** What the line of a watched task says. */
export interface Progress {
  readonly status: string;
  readonly attempt: number;
  /** 0 to 1; null where the runner says nothing of it. */
  readonly fraction: number | null;
  readonly message: string;
}

export const noProgress: Progress = { status: "PENDING", attempt: 0, fraction: null, message: "" };

/** The progress after an event; one that cannot be read changes nothing. */
export function progressAfter(before: Progress, { event, data }: TaskEvent): Progress {
  const value = objectOf(data);
  const attempt = typeof value.attempt === "number" ? value.attempt : before.attempt;
  if (event === "progress") {
    const fraction = typeof value.fraction === "number" ? Math.min(Math.max(value.fraction, 0), 1) : null;
    return { ...before, fraction, message: typeof value.message === "string" ? value.message : "" };
  }
  if (event === "reset") return { ...noProgress, status: String(value.status ?? before.status), attempt };
  if (event === event.toUpperCase()) return { ...noProgress, status: event, attempt };
  return before;
}

function objectOf(json: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** One line of at most `columns` cells. */
export function progressText(taskId: string, progress: Progress, elapsedMs: number, columns: number): string {
  const { status, attempt, fraction, message } = progress;
  const parts = [
    taskId,
    attempt > 1 ? `${status} (attempt ${attempt})` : status,
    ...(fraction === null ? [] : [`${bar(fraction)} ${String(Math.round(fraction * 100)).padStart(3)}%`]),
    ...(message === "" ? [] : [message]),
    `${(elapsedMs / 1_000).toFixed(1)} s`,
  ];
  let line = "";
  let width = 0;
  for (const character of plain(parts.join("  "))) {
    width += Bun.stringWidth(character);
    if (width >= columns) break; // in the last column some terminals go to the next line
    line += character;
  }
  return line;
}

const bar = (fraction: number): string => "█".repeat(Math.round(fraction * 20)).padEnd(20, "░");
