// `bun millrace tasks` against the whole service: what goes to a terminal and what to a pipe, the exit codes that the
// help promises, and a task that is watched over the death of the gateway.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runTasks, type Sink } from "../src/cli/tasks.ts";
import { type Stack, startStack } from "./stack.ts";

setDefaultTimeout(60_000);

let stack: Stack;
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace cli "));
  const pluginsDir = join(import.meta.dir, "fixtures/plugins");
  stack = await startStack({ settings: { PLUGINS_DIR: pluginsDir, MODELS: "echo,gated,refuser" } });
});
afterAll(async () => {
  await stack.stop();
  await rm(folder, { recursive: true, force: true });
});

interface Ran {
  readonly code: number;
  readonly output: string;
  readonly errors: string;
  /** What a terminal gets that shows both. */
  readonly screen: string;
}

interface RunOptions {
  readonly terminal?: boolean;
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
  readonly interrupt?: AbortSignal;
  /** Called with all of standard error whenever some is written. */
  readonly onErrors?: (text: string) => void;
}

/** The command in this process, on streams of the test. */
async function run(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  let output = "";
  let errors = "";
  let screen = "";
  const sink = (write: (text: string) => void): Sink => ({
    isTty: options.terminal ?? false,
    columns: 100,
    async write(bytes) {
      const text = typeof bytes === "string" ? bytes : Buffer.from(bytes).toString();
      screen += text;
      write(text);
    },
  });
  const code = await runTasks(args, options.env ?? settings(), {
    stdin: () => new Blob([options.input ?? ""]).stream(),
    stdout: sink((text) => {
      output += text;
    }),
    stderr: sink((text) => {
      errors += text;
      options.onErrors?.(errors);
    }),
    interrupt: options.interrupt ?? new AbortController().signal,
  });
  return { code, output, errors, screen };
}

/** A task that runs until `open` is called. */
async function startGated(): Promise<{ taskId: string; open(): Promise<void> }> {
  const dir = await mkdtemp(join(folder, "gate-"));
  const { task_id: taskId } = await stack.submit({ model: "gated", input: { dir, gated_attempts: [1, 2, 3] } });
  await stack.started(taskId);
  const open = async (): Promise<void> => {
    for (const attempt of [1, 2, 3]) await writeFile(join(dir, `open-${attempt}`), "");
  };
  return { taskId, open };
}

const settings = () => ({ MILLRACE_URL: stack.url, MILLRACE_API_KEY: stack.key });

test("as a process: one line of JSON in a pipe, the exit code, nothing else", async () => {
  const spawn = async (...args: string[]): Promise<Omit<Ran, "screen">> => {
    const child = Bun.spawn([process.execPath, "--silent", "millrace", "tasks", ...args], {
      cwd: join(import.meta.dir, ".."),
      // A proxy that is not there: nothing for this machine may go through it.
      env: {
        ...settings(),
        PATH: process.env.PATH,
        HTTP_PROXY: "http://127.0.0.1:1",
        http_proxy: "http://127.0.0.1:1",
      },
      stdio: [new Blob(['{"text":"piped"}']), "pipe", "pipe"],
    });
    const [output, errors] = await Promise.all([child.stdout.text(), child.stderr.text()]);
    return { code: await child.exited, output, errors };
  };
  const done = await spawn("submit", "echo", "-", "--watch");
  expect([done.code, done.errors, done.output.split("\n").length]).toEqual([0, "", 2]);
  expect(JSON.parse(done.output)).toMatchObject({ status: "SUCCESS", result: { echo: { text: "piped" } } });
  const refused = await spawn("get", "nope");
  expect(refused).toEqual({
    code: 4,
    output: "",
    errors: "millrace: There is no task with this id. (task_not_found)\n",
  });
});

test("a task is submitted once by its id, shown, and found in the list", async () => {
  const submit = [
    "submit",
    "echo",
    "text=hello",
    "sleep_ms:=1",
    "--id",
    "order-1",
    "--metadata",
    "order=1",
    "--priority",
    "high",
  ];
  const first = JSON.parse((await run(submit)).output);
  expect(JSON.parse((await run(submit)).output).task_id).toBe(first.task_id);
  await stack.ended(first.task_id);
  const got = await run(["get", first.task_id]);
  expect(got.code).toBe(0);
  expect(JSON.parse(got.output)).toEqual(await stack.read(first.task_id));
  const shown = await run(["get", first.task_id], { terminal: true });
  expect(shown.output).toStartWith(`${first.task_id}  SUCCESS\n  model     echo, high\n`);
  expect(shown.output).toContain('  result    {"echo":{"text":"hello","sleep_ms":1}}\n  metadata  order=1\n');
  const list = ["list", "--metadata", "order=1", "--status", "SUCCESS"];
  const listed = await stack.until("the task in the list", 10_000, async () => {
    const { code, output, errors } = await run(list);
    if (code !== 0) throw new Error(errors);
    const { data } = JSON.parse(output) as { data: { task_id: string }[] };
    return data.length > 0 ? data : null;
  });
  expect(listed.map(({ task_id }) => task_id)).toEqual([first.task_id]);
  const table = (await run(list, { terminal: true })).output.split("\n");
  expect([table[0], table[1], table.length]).toEqual([
    expect.stringMatching(/^task_id +status +model/),
    expect.stringContaining(`${first.task_id}  SUCCESS  echo   high`),
    3,
  ]);
});

test("the result goes into a file, whole, or to standard output", async () => {
  const { taskId, open } = await startGated();
  const file = join(folder, "result.txt");
  const early = await run(["get", taskId, "-o", file]);
  expect([early.code, early.output, existsSync(file)]).toEqual([4, "", false]);
  await open();
  const watched = await run(["watch", taskId, "-o", file]);
  expect([watched.code, JSON.parse(watched.output).status]).toEqual([0, "SUCCESS"]);
  expect(await readFile(file, "utf8")).toBe(`${taskId} attempt 1`);
  expect(existsSync(`${file}.partial`)).toBe(false);
  expect((await run(["get", taskId, "-o", "-"])).output).toBe(`${taskId} attempt 1`);
  const nowhere = await run(["get", taskId, "-o", join(folder, "no/such/folder")]);
  expect([nowhere.code, nowhere.output]).toEqual([2, ""]);
});

test("a watched task shows its progress, and outlives the gateway that it was watched on", async () => {
  const { taskId, open } = await startGated();
  const seen = Promise.withResolvers<void>();
  const onErrors = (text: string): void => {
    if (text.includes("STARTED")) seen.resolve();
  };
  const watching = run(["watch", taskId], { terminal: true, onErrors });
  await seen.promise;
  process.kill(await stack.pidOf("gateway"), "SIGKILL");
  await stack.ready();
  await open();
  const { code, output, errors, screen } = await watching;
  expect(code).toBe(0);
  expect(screen).toEndWith(`\r\x1b[2K${output}`);
  expect(output).toStartWith(`${taskId}  SUCCESS\n`);
  expect(errors).toContain(`\r\x1b[2K${taskId}  PENDING`);
  expect(errors).toEndWith("\r\x1b[2K");
});

test("every event as a line of JSON, for a program", async () => {
  const { code, output } = await run(["submit", "echo", "text=b", "--events"]);
  const events = output
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect([code, events[0].event, events.at(-1).event]).toEqual([0, "PENDING", "SUCCESS"]);
  expect(events.at(-1).data).toEqual(await stack.read(events[0].data.task_id));
});

test("a task that fails and one that is cancelled end with 1", async () => {
  const failed = await run(["submit", "refuser", "{}", "--watch", "-o", join(folder, "none")]);
  expect([failed.code, JSON.parse(failed.output).status]).toEqual([1, "FAILURE"]);
  const piped = await run(["submit", "refuser", "{}", "-o", "-"]);
  expect([piped.code, piped.output]).toEqual([1, ""]);
  expect(piped.errors).toStartWith("millrace: the task ended as FAILURE: ");
  const { taskId } = await startGated();
  const cancelled = await run(["cancel", taskId], { terminal: true });
  expect([cancelled.code, cancelled.output]).toEqual([0, `${taskId}  STARTED  cancel accepted\n`]);
  expect((await run(["watch", taskId])).code).toBe(1);
  const again = await run(["cancel", taskId]);
  expect([again.code, again.errors]).toEqual([4, expect.stringContaining("(task_finished)")]);
});

test("Ctrl-C stops watching and leaves the task alone", async () => {
  const { taskId, open } = await startGated();
  const interrupt = new AbortController();
  const onErrors = (text: string): void => {
    if (text.includes("STARTED")) interrupt.abort();
  };
  const stopped = await run(["watch", taskId], { terminal: true, interrupt: interrupt.signal, onErrors });
  expect([stopped.code, stopped.output]).toEqual([130, ""]);
  expect(stopped.errors).toEndWith(`the task goes on: bun millrace tasks watch ${taskId}\n`);
  await open();
  expect(await stack.ended(taskId)).toMatchObject({ status: "SUCCESS" });
});

test("what is wrong is said on standard error, with its exit code", async () => {
  const own = settings();
  const rows: [string[], Readonly<Record<string, string>>, number, string][] = [
    [["submit", "no-such", "a=b"], own, 4, "(unknown_model)"],
    [["submit", "gated", "a=b"], own, 4, "(invalid_request)\n  /input"],
    [["submit", "echo", "{"], own, 2, "the input is not JSON"],
    [["submit", "echo", "@no-such-file"], own, 2, "cannot read no-such-file"],
    [["list", "--limit", "0"], own, 4, "(invalid_request)\n  /limit"],
    [["list"], { ...own, MILLRACE_API_KEY: "wrong" }, 4, "(unauthorized)"],
    [["list"], { ...own, MILLRACE_URL: "http://127.0.0.1:1" }, 3, "nothing listens there"],
    [["submit", "echo", "text=a"], { ...own, MILLRACE_URL: "http://127.0.0.1:1" }, 3, "with --id cli-"],
    [["list"], { MILLRACE_URL: "http://millrace.example" }, 2, "MILLRACE_API_KEY must be set for millrace.example"],
    [["list"], { MILLRACE_URL: "127.0.0.1:8000" }, 2, "MILLRACE_URL must be a URL"],
  ];
  for (const [args, env, code, message] of rows) {
    const ran = await run(args, { env });
    expect([args, ran.code, ran.output]).toEqual([args, code, ""]);
    expect(ran.errors).toContain(message);
  }
});
