import { expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { guarded } from "./model-server.ts";

const run = async (command: string, cwd: string, env: Record<string, string> = {}) => {
  const started = Promise.withResolvers<number>();
  const child = Bun.spawn(guarded(command), {
    cwd,
    env: { PATH: process.env.PATH ?? "", ...env },
    stdio: ["ignore", "pipe", "inherit"],
    serialization: "json",
    ipc(message: { readonly pid: number }) {
      started.resolve(message.pid);
    },
  });
  const [said, code, pid] = await Promise.all([new Response(child.stdout).text(), child.exited, started.promise]);
  return { said, code, pid };
};

test("the guard passes on what the server prints, how it ends, and no setting out of .env", async () => {
  const folder = await mkdtemp(join(tmpdir(), "model server "));
  await writeFile(join(folder, ".env"), "API_KEYS=from-the-file");
  const ran = await run("sh -c 'echo $GIVEN [$API_KEYS]; exit 7'", folder, { GIVEN: "yes" });
  await rm(folder, { recursive: true });
  expect(ran).toMatchObject({ said: "yes []\n", code: 7 });
});

test.each([
  ["A=1 B='x y' C=\"$GIVEN z\" sh -c 'echo [$A] [$B] [$C] $$'", "[1] [x y] [yes z]"],
  ["  env A=2 sh -c 'echo [$A] $$'", "[2]"],
  ["sh -c 'echo [$0] $$' a=b", "[a=b]"],
])("variables may stand before the program, which takes the shell's place: %s", async (command, expected) => {
  const { said, pid, code } = await run(command, tmpdir(), { GIVEN: "yes" });
  expect([said, code]).toEqual([`${expected} ${pid}\n`, 0]);
});

test("without an actor at the other end it starts nothing", async () => {
  const child = Bun.spawn(guarded("echo started"), { stdio: ["ignore", "pipe", "inherit"] });
  expect([await new Response(child.stdout).text(), await child.exited]).toEqual(["", 0]);
});
