// docs/simulator.md against the simulator: its commands are run as they stand, and its tables have every fault and path.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseFault } from "../src/sim/fault.ts";
import { parseScenarios } from "../src/sim/modes/script-file.ts";
import { type Simulator, startSimulator } from "../src/sim/simulator.ts";

const root = join(import.meta.dir, "..");
const page = readFileSync(join(root, "docs/simulator.md"), "utf8");
let simulator: Simulator;
beforeAll(async () => {
  simulator = await startSimulator();
});
afterAll(() => simulator.stop());

/** What the command says, run by a shell as a reader would. */
async function run(command: string): Promise<string> {
  const child = Bun.spawn(["bash", "-c", command.replaceAll("http://127.0.0.1:8001", simulator.url)], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  const text = await child.stdout.text();
  return `${await child.exited}\n${text}`;
}

/** What a reader should see of each command, in their order. */
const expected: readonly RegExp[] = [
  /^0\n.*Monday.*"system_fingerprint"|^0\n.*"system_fingerprint".*Monday/,
  /^0\ndata: \{[\s\S]*"usage":\{[\s\S]*data: \[DONE\]\n\n$/,
  /^0\n.*"content":"You asked: Who turns the wheel\?"/,
  /^0\n.*"max_num_seqs":2,.*"decode":20000/,
  /^0\nHTTP\/1.1 429 .*\r\n[\s\S]*retry-after: 2\r\n[\s\S]*RateLimitError/i,
  /^0\n(data: \{.*"choices".*\n\n){4}data: \{"error":\{"message":"The engine broke\..*\n\ndata: \[DONE\]\n\n$/,
  /^0\n.*"seen":0,"injected":0.*"rate":0\.01/,
  /^0\n.*"engine_dead":false,"faults":\[\]/,
];

test.skipIf(Bun.which("curl") === null)("its commands do what it says (skipped without curl)", async () => {
  const commands = [...page.matchAll(/^```sh\n(curl [\s\S]*?)```/gm)].map((match) => match[1] ?? "");
  expect(commands).toHaveLength(expected.length);
  for (const [index, command] of commands.entries()) {
    expect(await run(command)).toMatch(expected[index] ?? /^never$/);
  }
});

test("its scenario is one", () => {
  const [, yaml = ""] = /^```yaml\n([\s\S]*?)```/m.exec(page) ?? [];
  expect(parseScenarios(yaml, "docs/simulator.md").get("refund")?.rules).toHaveLength(5);
});

test("its tables have every part of a fault, and no other", () => {
  const source = readFileSync(join(root, "src/sim/fault.ts"), "utf8");
  const fields = [...source.matchAll(/^ {2}readonly (\w+)\?:/gm)].map((match) => match[1] ?? "");
  const faults = page.slice(page.indexOf("## Faults"));
  const cells = [...faults.matchAll(/^\| (`[a-z_]+(?:=[A-Z]+)?`(?:, `[a-z_]+`)*) \|/gm)].map((match) => match[1] ?? "");
  const parts = cells.flatMap((cell) => cell.split(", ").map((part) => part.replaceAll("`", "")));
  const listed = parts.map((part) => part.replace(/=.*/, ""));
  const qualifiers = ["retry_after", "message", "body", "after"];
  expect([...listed, ...qualifiers].sort()).toEqual(fields.sort());
  for (const part of parts) parseFault(part.replace("=N", "=500").replace("=TEXT", "=text/html"));
});

test("the paths that it names are served, but for those of its last part", async () => {
  const named = [...page.matchAll(/`(\/[a-z_0-9/]+)`/g)]
    .map((match) => match[1] ?? "")
    .filter((path) => path !== "/v1");
  const absent = named.slice(named.indexOf("/v1/responses"));
  for (const path of new Set(named)) {
    const { status } = await fetch(simulator.url + path, { method: "PUT", body: "{}" });
    expect([path, status]).toEqual([path, absent.includes(path) ? 404 : 405]);
  }
});
