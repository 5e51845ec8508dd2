import { expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { guarded } from "./model-server.ts";

const run = async (command: string, cwd: string, env: Record<string, string> = {}) => {
  const child = Bun.spawn(guarded(command), {
    cwd,
    env: { PATH: process.env.PATH ?? "", ...env },
    stdio: ["ignore", "pipe", "inherit"],
    serialization: "json",
    ipc: () => {},
  });
  return { said: await new Response(child.stdout).text(), code: await child.exited };
};

test("the guard passes on what the server prints, how it ends, and no setting out of .env", async () => {
  const folder = await mkdtemp(join(tmpdir(), "model server "));
  await writeFile(join(folder, ".env"), "API_KEYS=from-the-file");
  const ran = await run("sh -c 'echo $GIVEN [$API_KEYS]; exit 7'", folder, { GIVEN: "yes" });
  await rm(folder, { recursive: true });
  expect(ran).toEqual({ said: "yes []\n", code: 7 });
});

test("without an actor at the other end it starts nothing", async () => {
  const child = Bun.spawn(guarded("echo started"), { stdio: ["ignore", "pipe", "inherit"] });
  expect([await new Response(child.stdout).text(), await child.exited]).toEqual(["", 0]);
});
