import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Config, loadConfig } from "../config.ts";
import { type KeysCommand, parseKeysCommand } from "./command.ts";
import { newKeyText } from "./key-text.ts";
import { runKeysCommand } from "./run-command.ts";

const id = "mr_4f0k2m7q9x1t";
const created = { name: "create", keyName: "web", scopes: ["tasks:read", "tasks:write"] } as const;

test.each<[string[], KeysCommand]>([
  [["create", "--name", "web"], { ...created, expiresMs: null, ratePerMinute: null, tokensPerDay: null }],
  [
    ["create", "--name", "web", "--scopes", "metrics, admin", "--expires", "90d", "--rate-limit", "0"],
    { ...created, scopes: ["admin", "metrics"], expiresMs: 90 * 86_400_000, ratePerMinute: 0, tokensPerDay: null },
  ],
  [
    ["create", "--name", "web", "--tokens-per-day", "1000000"],
    { ...created, expiresMs: null, ratePerMinute: null, tokensPerDay: 1_000_000 },
  ],
  [["list"], { name: "list" }],
  [["rotate", id], { name: "rotate", id, overlapMs: 86_400_000 }],
  [["rotate", id.slice(3), "--overlap", "0"], { name: "rotate", id, overlapMs: 0 }],
  [["revoke", newKeyText("prod", id).text], { name: "revoke", id }],
  [[], { name: "help" }],
  [["list", "--help"], { name: "help" }],
])("keys %p", (args, command) => {
  expect(parseKeysCommand(args)).toEqual(command);
});

test.each([
  [["create"], "--name is"],
  [["create", "--name", "\u001b[2J"], "--name is"],
  [["create", "--name", "x", "--scopes", "tasks:read,all"], 'no scope "all"'],
  [["create", "--name", "x", "--expires", "soon"], "--expires is a duration"],
  [["create", "--name", "x", "--expires", "0"], "--expires is a duration"],
  [["create", "--name", "x", "--rate-limit", "-1"], "--rate-limit"],
  [["create", "--name", "x", "--tokens-per-day", "1e6"], "--tokens-per-day"],
  [["create", "--name", "x", "--overlap", "1h"], "keys create takes no --overlap"],
  [["create", "web"], "keys create takes no web"],
  [["revoke"], "needs the id of one key"],
  [["revoke", id, id], "needs the id of one key"],
  [["revoke", "mr_../../x"], "needs the id of one key"],
  [["rotate", id, "--overlap", "soon"], "--overlap is a duration"],
  [["delete", id], "no command keys delete"],
  [["list", "--all"], "--all"],
])("keys %p is refused", (args, why) => {
  expect(parseKeysCommand(args)).toContain(why);
});

let config: Config;
beforeAll(async () => {
  config = loadConfig({ DATA_DIR: await mkdtemp(join(tmpdir(), "millrace keys ")) });
});
afterAll(() => rm(config.dataDir, { recursive: true, force: true }));

test("on a terminal: a new key once, and a table", async () => {
  const run = (...args: string[]): Promise<string> =>
    runKeysCommand(config, parseKeysCommand(args) as KeysCommand, true);
  expect(await run("list")).toStartWith("no keys yet");
  const made = await run("create", "--name", "web");
  const [, text = "", made_id = ""] = /^key +(\S+)\nid +(\S+)\n/.exec(made) ?? [];
  expect(made).toContain("Gateways with ENV=dev take it within 5 seconds.");
  const rotated = await run("rotate", made_id);
  expect(rotated).toMatch(/^old key {2}good until \d{4}-/m);
  expect(rotated).not.toContain(text);
  expect(await run("revoke", made_id)).toContain("is revoked");
  const [head, row] = (await run("list")).split("\n");
  expect(head).toMatch(/^ID +STATUS +EXPIRES +LAST USED +SCOPES +NAME$/);
  expect(row).toMatch(new RegExp(`^${made_id} +revoked +never +never +tasks:read,tasks:write +web$`));
});
