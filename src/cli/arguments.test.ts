// What is typed behind `bun millrace tasks`, as the command that it means, or as a refusal that says what is wrong.
import { expect, test } from "bun:test";
import { help, parseTasksCommand } from "./arguments.ts";

const show = { json: false, events: false, output: null };
const parse = (line: string) => parseTasksCommand(line.split(" "));

test("a submission has its fields, its input as typed, and the fields of later versions", () => {
  const options =
    "--priority high --id order-1 --max-attempts 2 --timeout-ms 500 --metadata a=b --metadata c=d=e --run-at 2030 --delay-ms 5";
  expect(parse(`submit echo text=hello n:=1 ${options} --field x:=[1] --field y=2`)).toEqual({
    name: "submit",
    fields: {
      model: "echo",
      priority: "high",
      client_request_id: "order-1",
      max_attempts: 2,
      timeout_ms: 500,
      metadata: { a: "b", c: "d=e" },
      run_at: "2030",
      delay_ms: 5,
      x: [1],
      y: "2",
    },
    input: ["text=hello", "n:=1"],
    watch: false,
    show,
  });
});

test("who asks for events or for the result waits for the end", () => {
  expect(parse("submit echo - --events")).toMatchObject({ watch: true, input: ["-"] });
  expect(parse("submit echo - -o file")).toMatchObject({ watch: true, show: { output: "file" } });
});

test("an id stays one segment of a path", () => {
  expect(parse("get ../models")).toEqual({ name: "get", taskId: "..%2Fmodels", show });
  expect(parse("watch a --events --json")).toMatchObject({ taskId: "a", show: { events: true, json: true } });
});

test("a list's filters are the query of the API", () => {
  const command = parse("list --status FAILURE --created-after 2026-01-01T00:00:00Z --search a&b --metadata order=1");
  if (command.name !== "list") throw new Error(command.name);
  expect([...command.query]).toEqual([
    ["status", "FAILURE"],
    ["created_after", "2026-01-01T00:00:00Z"],
    ["q", "a&b"],
    ["metadata.order", "1"],
  ]);
});

test.each(["help", "--help", "-h", "submit --help", "list -h"])("%s shows the help", (line) => {
  expect(parse(line)).toEqual({ name: "help" });
});

test.each([
  ["", "no command given"],
  ["sumbit echo a=b", "no command sumbit"],
  ["submit echo", "submit needs a model and an input"],
  ["submit echo a=b --prio high", "--prio"],
  ["submit echo a=b --timeout-ms 1s", "--timeout-ms takes a whole number"],
  ["submit echo a=b --metadata a", "--metadata takes name=text"],
  ["submit echo a=b --field a:={", "--field a is not JSON"],
  ["get", "give one task_id"],
  ["cancel ..", ".. is no task_id"],
  ["cancel a b", "give one task_id"],
  ["cancel a --events", "--events"],
  ["list a", "a"],
])("%p is refused", (line, message) => {
  expect(() => parse(line)).toThrow(message);
  expect(() => parse(line)).toThrow(expect.objectContaining({ exitCode: 2 }));
});

test("the help names every command and option, and fits a terminal", () => {
  for (const name of ["submit", "get", "watch", "cancel", "list"]) expect(help).toContain(`\n  ${name} `);
  const options = new Set(help.match(/--[a-z][a-z-]+/g));
  for (const option of ["--watch", "--id", "--field", "--created-after", "--created-before", "--output", "--json"]) {
    expect(options).toContain(option);
  }
  expect(help.split("\n").filter((line) => line.length > 80)).toEqual([]);
});
