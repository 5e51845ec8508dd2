// `bun millrace sim` as an operator and a supervisor run it: a process that says where it is and ends when it should.
import { afterAll, expect, test } from "bun:test";
import { join } from "node:path";

const MAIN = join(import.meta.dir, "../src/main.ts");
const children: Bun.Subprocess[] = [];
afterAll(async () => {
  for (const child of children) child.kill("SIGKILL");
  await Promise.all(children.map((child) => child.exited));
});

interface Started {
  readonly child: Bun.Subprocess<"ignore", "pipe", "pipe">;
  /** What it tells its supervisor first. */
  readonly told: Promise<Record<string, unknown>>;
}

function run(settings: Readonly<Record<string, string>>, supervised = true): Started {
  const told = Promise.withResolvers<Record<string, unknown>>();
  const child = Bun.spawn([process.execPath, MAIN, "sim"], {
    env: { PATH: process.env.PATH ?? "", HOME: process.env.HOME ?? "", SIM_PORT: "0", ...settings },
    stdio: ["ignore", "pipe", "pipe"],
    ...(supervised && { serialization: "json" as const, ipc: told.resolve }),
  });
  children.push(child);
  return { child, told: told.promise };
}

test("it tells its supervisor where it is, serves, and ends on SIGTERM in the middle of an answer", async () => {
  const { child, told } = run({ SIM_PROFILE: "8b-h100", SIM_MODELS: "one,org/two" });
  const { type, url } = await told;
  expect(type).toBe("ready");
  const models = (await (await fetch(`${url}/v1/models`)).json()) as { data: { id: string }[] };
  expect(models.data.map((model) => model.id)).toEqual(["one", "org/two"]);
  const answer = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    body: JSON.stringify({ messages: [{ role: "user", content: "Go on." }], stream: true, ignore_eos: true }),
  });
  child.kill("SIGTERM");
  expect(await child.exited).toBe(0);
  await answer.text().catch(() => null);
});

test("it ends with its supervisor", async () => {
  const { child, told } = run({});
  await told;
  child.disconnect();
  expect(await child.exited).toBe(1);
});

test("alone it prints its address", async () => {
  const { child } = run({}, false);
  const { value } = await child.stdout.getReader().read();
  const url = /at (http:\S+)\/v1/.exec(Buffer.from(value ?? []).toString())?.[1];
  expect((await fetch(`${url}/health`)).status).toBe(200);
});

test("what cannot be is told in a line", async () => {
  const unknown = run({ SIM_PROFILE: "9b" }, false).child;
  expect(await unknown.exited).toBe(1);
  expect(await new Response(unknown.stderr).text()).toStartWith("millrace: no profile 9b: one of instant, ");
  using taken = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response() });
  const refused = run({ SIM_PORT: `${taken.port}` });
  expect(await refused.told).toMatchObject({ type: "failed", code: "port_taken" });
  expect(await refused.child.exited).toBe(1);
});
