// `bun millrace tasks`: submits, shows, watches, cancels and lists tasks over HTTP, for a person at a terminal and for
// scripts. main.ts calls it with the process's streams. The answer of a command is on standard output and nothing else
// is: progress and failures go to standard error.
import { rename, rm } from "node:fs/promises";
import { loadClientConfig } from "../config.ts";
import { asAppError } from "../errors.ts";
import { assignments, type Command, help, type Output, parsed, parseTasksCommand, wrong } from "./arguments.ts";
import { type Client, CommandFailure, createClient, type ExitCode, exitCodes } from "./client.ts";
import { follow, type TaskEvent } from "./events.ts";
import {
  listText,
  noProgress,
  plain,
  plainJson,
  progressAfter,
  progressText,
  type ShownTask,
  taskText,
} from "./terminal.ts";

export interface Sink {
  readonly isTty: boolean;
  /** Cells of a line. */
  readonly columns: number;
  /** Resolves when it is written. */
  write(bytes: string | Uint8Array): Promise<void>;
}

export interface Streams {
  readonly stdin: () => AsyncIterable<Uint8Array>;
  readonly stdout: Sink;
  readonly stderr: Sink;
  /** Aborts on Ctrl-C. */
  readonly interrupt: AbortSignal;
}

/** As large as a gateway takes. */
const inputBytesMax = 16 * 1024 * 1024;
const repaintMs = 200;
/** To the first column, and empty to the last (ECMA-48 EL). */
const clearLine = "\r\x1b[2K";

/** Runs the command that `args` (behind `tasks`) ask for; whatever goes wrong is said on standard error. */
export async function runTasks(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  streams: Streams,
): Promise<ExitCode> {
  try {
    const command = parseTasksCommand(args);
    if (command.name === "help") {
      await streams.stdout.write(help);
      return exitCodes.done;
    }
    return await run(command, createClient(loadClientConfig(env), streams.interrupt), streams);
  } catch (error) {
    const failure = asAppError(error) ? wrong((error as Error).message) : error;
    if (!(failure instanceof CommandFailure)) throw error;
    const lines = failure.message.split("\n").map(plain).join("\n");
    const hint = failure.exitCode === exitCodes.usage ? "\nbun millrace tasks --help shows what there is\n" : "\n";
    await streams.stderr.write(`millrace: ${lines}${hint}`);
    return failure.exitCode;
  }
}

async function run(command: Exclude<Command, { name: "help" }>, client: Client, streams: Streams): Promise<ExitCode> {
  switch (command.name) {
    case "submit": {
      const input = await readInput(command.input, streams);
      const id = command.fields.client_request_id ?? `cli-${crypto.randomUUID()}`;
      const request = { ...command.fields, client_request_id: id, input };
      const repeat = `if it was taken all the same: with --id ${id} it is the same task`;
      const accepted = await hinting(client.json("POST", "/v1/tasks", request), repeat);
      const { task_id: taskId, status } = JSON.parse(accepted) as ShownTask;
      if (command.watch) return watchHinting(taskId, command.show, client, streams);
      await print(accepted, () => `${plain(taskId)}  ${plain(status)}\n`, command.show, streams);
      return exitCodes.done;
    }
    case "get": {
      const task = await client.json("GET", `/v1/tasks/${command.taskId}`);
      await finish(task, command.show, client, streams);
      return exitCodes.done;
    }
    case "watch":
      return watchHinting(command.taskId, command.show, client, streams);
    case "cancel": {
      const answer = await client.json("POST", `/v1/tasks/${command.taskId}/cancel`);
      const { task_id, status } = JSON.parse(answer) as ShownTask;
      await print(answer, () => `${plain(task_id)}  ${plain(status)}  cancel accepted\n`, command.show, streams);
      return exitCodes.done;
    }
    case "list": {
      const page = await client.json("GET", `/v1/tasks?${command.query}`);
      const { data, next_cursor = null } = JSON.parse(page) as { data: ShownTask[]; next_cursor?: string | null };
      await print(page, () => listText(data, next_cursor), command.show, streams);
      return exitCodes.done;
    }
  }
}

/** How a command ends that leaves something open. */
const unsettled: ReadonlySet<ExitCode> = new Set([exitCodes.unreachable, exitCodes.interrupted]);

/** Adds to such an end what to do about it. */
const hinting = <T>(work: Promise<T>, hint: string): Promise<T> =>
  work.catch((error: unknown) => {
    if (!(error instanceof CommandFailure) || !unsettled.has(error.exitCode)) throw error;
    throw new CommandFailure(error.exitCode, `${error.message}\n${hint}`, { cause: error });
  });

const watchHinting: typeof watch = (taskId, ...rest) =>
  hinting(watch(taskId, ...rest), `the task goes on: bun millrace tasks watch ${taskId}`);

/** Follows a task to its end and shows it then. */
async function watch(taskId: string, show: Output, client: Client, streams: Streams): Promise<ExitCode> {
  await using line = startLine(taskId, streams.stderr);
  let task: string | null = null;
  for await (const event of follow(client, taskId)) {
    line.update(event);
    if (show.events) {
      const head = JSON.stringify({ id: event.id, event: event.event }).slice(0, -1);
      await line.aside(() => streams.stdout.write(`${plainJson(`${head},"data":${event.data}}`)}\n`));
    }
    if (["SUCCESS", "FAILURE", "CANCELLED"].includes(event.event)) {
      task = event.data; // the last event is the task
      break;
    }
  }
  await line.end();
  task ??= await client.json("GET", `/v1/tasks/${taskId}`);
  const { status, error } = JSON.parse(task) as ShownTask;
  const succeeded = status === "SUCCESS";
  if (!succeeded && show.output === "-") {
    const why = error ? `: ${error.message} (${error.code})` : "";
    throw new CommandFailure(exitCodes.taskFailed, `the task ended as ${status}${why}`);
  }
  await finish(task, succeeded ? show : { ...show, output: null }, client, streams);
  return succeeded ? exitCodes.done : exitCodes.taskFailed;
}

/** Shows a task, or brings its result to where it was asked for. */
async function finish(task: string, show: Output, client: Client, streams: Streams): Promise<void> {
  const { task_id: taskId, ...shown } = JSON.parse(task) as ShownTask;
  if (show.output !== null) await saveResult(taskId, show.output, client, streams.stdout);
  if (show.output !== "-" && !show.events) {
    await print(task, () => taskText({ task_id: taskId, ...shown }), show, streams);
  }
}

async function saveResult(taskId: string, path: string, client: Client, stdout: Sink): Promise<void> {
  const answer = await client.call("GET", `/v1/tasks/${taskId}/result`);
  if (answer.status !== 200) {
    answer.close();
    throw new CommandFailure(exitCodes.refused, "the task has not ended: watch it");
  }
  if (path === "-") {
    for await (const chunk of answer.chunks()) await stdout.write(chunk);
    return;
  }
  // Beside its place first: a result is there whole or not at all.
  const partial = `${path}.partial`;
  try {
    const file = Bun.file(partial).writer();
    for await (const chunk of answer.chunks()) {
      file.write(chunk);
      await file.flush();
    }
    await file.end();
    await rename(partial, path);
  } catch (error) {
    answer.close();
    await rm(partial, { force: true });
    throw error instanceof CommandFailure ? error : wrong(`cannot write ${path}`);
  }
}

/** JSON for a program, text for a person. */
async function print(json: string, text: () => string, show: Output, { stdout }: Streams): Promise<void> {
  await stdout.write(stdout.isTty && !show.json ? text() : `${stdout.isTty ? plainJson(json) : json}\n`);
}

/** The object that the words of `submit` behind the model mean. */
async function readInput(words: readonly string[], { stdin }: Streams): Promise<unknown> {
  const [first = "", ...more] = words;
  if (more.length > 0 || /^[^{@-][^=]*=/.test(first)) return assignments("the input", words, true);
  if (first === "-") return parsed("standard input", await readText("standard input", stdin()));
  if (first.startsWith("@")) {
    const path = first.slice(1);
    return parsed(path, await readText(path, Bun.file(path).stream()));
  }
  return parsed("the input", first);
}

async function readText(what: string, source: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  try {
    for await (const chunk of source) {
      sizeBytes += chunk.byteLength;
      if (sizeBytes > inputBytesMax) throw wrong(`${what} has more than 16 MiB: send large files by URL`);
      chunks.push(chunk);
    }
  } catch (error) {
    throw error instanceof CommandFailure ? error : wrong(`cannot read ${what}`);
  }
  return Buffer.concat(chunks).toString();
}

/** The live line of a watched task, where there is a terminal; otherwise nothing. */
function startLine(taskId: string, stderr: Sink) {
  const startMs = performance.now();
  let progress = noProgress;
  let shown = stderr.isTty;
  const clear = async (): Promise<void> => {
    if (shown) await stderr.write(clearLine);
  };
  const paint = (): void => {
    const text = progressText(taskId, progress, performance.now() - startMs, stderr.columns);
    if (shown) void stderr.write(`${clearLine}${text}`);
  };
  const timer = shown ? setInterval(paint, repaintMs) : undefined;
  const end = async (): Promise<void> => {
    clearInterval(timer);
    await clear();
    shown = false;
  };
  return {
    update(event: TaskEvent) {
      progress = progressAfter(progress, event);
      paint();
    },
    /** Writes something else, on a line of its own. */
    async aside(write: () => Promise<void>) {
      await clear();
      await write();
      paint();
    },
    end,
    [Symbol.asyncDispose]: end,
  };
}
