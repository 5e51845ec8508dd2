// What the arguments of `bun millrace tasks` ask for, as data: names, kinds and places are checked here, values by the
// gateway, which knows them better. Also the page that `--help` shows.
import { type ParseArgsConfig, parseArgs } from "node:util";
import { messageOf } from "../errors.ts";
import { CommandFailure, exitCodes } from "./client.ts";

export const help = `usage: bun millrace tasks <command> [options]

  submit <model> <input>   submit a task; --watch goes on to its end
  get <task_id>            show a task
  watch <task_id>          follow a task to its end
  cancel <task_id>         cancel a task
  list                     list tasks, newest first

The input of a task is one of
  '{"text":"hello"}'       JSON
  @file.json               a file with JSON in it; - is standard input
  text=hello size:=2       fields: name=text, name:=json

submit
  --watch                  wait for the end, and show the task then
  --priority LEVEL         high, normal (default) or low
  --id ID                  your name for it: the same again is the same task
  --max-attempts N         attempts in all
  --timeout-ms N           milliseconds that one attempt may take
  --run-at TIME            not before then, such as 2026-11-21T10:00:00Z
  --delay-ms N             not before so many milliseconds from now
  --deadline TIME          started by then, or not at all
  --callback-url URL       told of the end by a signed request
  --metadata NAME=TEXT     kept with the task; may be given again
  --field NAME=TEXT        any other field of POST /v1/tasks; NAME:=JSON too

list
  --status STATUS          such as PENDING, SUCCESS or FAILURE
  --model NAME             of this model
  --priority LEVEL         of this level
  --metadata NAME=TEXT     with this metadata; may be given again
  --search TEXT            with this text in its input or error
  --created-after TIME     such as 2026-11-21T10:00:00Z; also --created-before
  --limit N                at most so many, 1 to 100 (default 20)
  --cursor CURSOR          go on where a list ended

output
  -o, --output FILE        get and watching: the result into a file; - is
                           standard output
  --events                 watching: each event as a line of JSON
  --json                   JSON on a terminal too

A terminal gets text, a pipe or a file gets JSON. The progress of a watched task
is shown on standard error where that is a terminal. Ctrl-C stops watching; the
task goes on.

exit codes
  0    done; of a watched task: it ended as SUCCESS
  1    the watched task ended as FAILURE or CANCELLED
  2    the arguments or the settings make no sense
  3    no gateway was reached, or it cannot answer now: try again later
  4    the gateway refused: the key, the task, or what was asked
  70   a fault of this command
  130  interrupted

MILLRACE_URL and MILLRACE_API_KEY say which gateway, and with which key; without
them it is the one that \`up\` starts here.
`;

export interface Output {
  readonly json: boolean;
  readonly events: boolean;
  /** Where the bytes of the result go. */
  readonly output: string | null;
}

export type Command =
  | { readonly name: "help" }
  | {
      readonly name: "submit";
      /** POST /v1/tasks without the input. */
      readonly fields: Readonly<Record<string, unknown>>;
      /** As given: JSON, `@file`, `-`, or fields. */
      readonly input: readonly string[];
      readonly watch: boolean;
      readonly show: Output;
    }
  | { readonly name: "get" | "watch" | "cancel"; readonly taskId: string; readonly show: Output }
  | { readonly name: "list"; readonly query: URLSearchParams; readonly show: Output };

const text = { type: "string" } as const;
const texts = { type: "string", multiple: true } as const;
const flag = { type: "boolean" } as const;
const common = { help: { type: "boolean", short: "h" }, json: flag } as const;
const result = { output: { type: "string", short: "o" } } as const;

/** Throws a CommandFailure. */
export function parseTasksCommand(args: readonly string[]): Command {
  const [name = "", ...rest] = args;
  if (["help", "--help", "-h"].includes(name) || rest.includes("--help") || rest.includes("-h"))
    return { name: "help" };
  try {
    switch (name) {
      case "submit":
        return submit(rest);
      case "get":
        return { name, ...one(rest, { ...common, ...result }) };
      case "watch":
        return { name, ...one(rest, { ...common, ...result, events: flag }) };
      case "cancel":
        return { name, ...one(rest, common) };
      case "list":
        return list(rest);
      default:
        throw wrong(name === "" ? "no command given" : `no command ${name}`);
    }
  } catch (error) {
    throw error instanceof CommandFailure ? error : wrong(messageOf(error));
  }
}

export const wrong = (message: string): CommandFailure => new CommandFailure(exitCodes.usage, message);

function submit(args: string[]): Command {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      ...common,
      ...result,
      events: flag,
      watch: flag,
      priority: text,
      id: text,
      "max-attempts": text,
      "timeout-ms": text,
      "run-at": text,
      "delay-ms": text,
      deadline: text,
      "callback-url": text,
      metadata: texts,
      field: texts,
    },
  });
  const [model, ...input] = positionals;
  if (model === undefined || input.length === 0) throw wrong("submit needs a model and an input");
  const show = shown(values);
  const watch = values.watch ?? (show.output !== null || show.events);
  const fields = Object.fromEntries(
    Object.entries({
      model,
      priority: values.priority,
      client_request_id: values.id,
      max_attempts: integer("--max-attempts", values["max-attempts"]),
      timeout_ms: integer("--timeout-ms", values["timeout-ms"]),
      run_at: values["run-at"],
      delay_ms: integer("--delay-ms", values["delay-ms"]),
      deadline: values.deadline,
      callback_url: values["callback-url"],
      metadata: values.metadata && assignments("--metadata", values.metadata, false),
      ...assignments("--field", values.field ?? [], true),
    }).filter(([, value]) => value !== undefined),
  );
  return { name: "submit", fields, input, watch, show };
}

function one(args: string[], options: NonNullable<ParseArgsConfig["options"]>): { taskId: string; show: Output } {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options });
  const [taskId, ...more] = positionals;
  if (taskId === undefined || more.length > 0) throw wrong("give one task_id");
  // It becomes one segment of a path, whatever was typed; dots alone would be taken for a step in it.
  if (/^\.+$/.test(taskId)) throw wrong(`${taskId} is no task_id`);
  return { taskId: encodeURIComponent(taskId), show: shown(values) };
}

function list(args: string[]): Command {
  const filters = {
    status: text,
    model: text,
    priority: text,
    "created-after": text,
    "created-before": text,
    limit: text,
    cursor: text,
  };
  const { values } = parseArgs({ args, options: { ...common, ...filters, search: text, metadata: texts } });
  const query = new URLSearchParams();
  for (const name of Object.keys(filters) as (keyof typeof filters)[]) {
    const value = values[name];
    if (value !== undefined) query.set(name.replace("-", "_"), value);
  }
  if (values.search !== undefined) query.set("q", values.search);
  for (const [name, value] of Object.entries(assignments("--metadata", values.metadata ?? [], false))) {
    query.set(`metadata.${name}`, String(value));
  }
  return { name: "list", query, show: shown(values) };
}

const shown = (values: Readonly<Record<string, unknown>>): Output => ({
  json: values.json === true,
  events: values.events === true,
  output: typeof values.output === "string" ? values.output : null,
});

function integer(option: string, value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (!/^\d{1,15}$/.test(value)) throw wrong(`${option} takes a whole number`);
  return Number(value);
}

/** `name=text` and, with `json`, `name:=json`, as an object. */
export function assignments(what: string, words: readonly string[], json: boolean): Record<string, unknown> {
  const entries = words.map((word): [string, unknown] => {
    const [, name = "", operator, value = ""] = /^([^=:]+)(:?=)(.*)$/s.exec(word) ?? [];
    if (operator === "=") return [name, value];
    if (operator === undefined || !json) throw wrong(`${what} takes name=text${json ? " or name:=json" : ""}`);
    return [name, parsed(`${what} ${name}`, value)];
  });
  return Object.fromEntries(entries);
}

export function parsed(what: string, json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    throw wrong(`${what} is not JSON`);
  }
}
