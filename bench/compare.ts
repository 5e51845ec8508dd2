// Measures Millrace beside its peers in interleaved rounds and prints the tables; every round's figures are appended to
// the results file too. `bun bench/compare.ts --rounds 3 --only ours-fast,b,ours,b-durable,a-durable`
import { mkdirSync } from "node:fs";
import { parseArgs } from "node:util";
import { withChildren } from "./children.ts";
import { benchHome, resultsFile } from "./home.ts";
import { report } from "./report.ts";
import { runRounds } from "./rounds.ts";
import { type Target, targets } from "./targets.ts";

const usage = `usage: bun bench/compare.ts [options]
  --rounds N          3
  --only a,b,…        ours-fast,b,ours,b-durable,a-durable; also a and c
  --quick             a tenth of the tasks
  --wait HOW          poll (adaptive, the same for all), or prefer or sse (Millrace only)
  --set NAME=VALUE    a setting of Millrace, such as PARTITIONS=4; may be given more than once
  --json              print a JSON line a result before the tables`;

export interface CompareDefaults {
  readonly rounds: string;
  readonly only: string;
  readonly json: boolean;
}

export async function compare(args: readonly string[], defaults: CompareDefaults): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rounds: { type: "string", default: defaults.rounds },
      only: { type: "string", default: defaults.only },
      quick: { type: "boolean", default: false },
      wait: { type: "string", default: "poll" },
      set: { type: "string", multiple: true, default: [] },
      json: { type: "boolean", default: defaults.json },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    return;
  }
  const known = targets(parseSettings(values.set));
  const chosen = values.only.split(",").map((name) => find(known, name));
  mkdirSync(benchHome(), { recursive: true });
  const options = { rounds: Number(values.rounds), scale: values.quick ? 0.1 : 1, loadFlags: ["--wait", values.wait] };
  const results = await withChildren((children) => runRounds(chosen, { ...options, children }));
  if (values.json) for (const result of results) console.log(JSON.stringify(result));
  console.log(report(results));
  console.error(`figures of every round: ${resultsFile()}`);
}

export function parseSettings(entries: readonly string[]): Record<string, string> {
  const settings: Record<string, string> = {};
  for (const entry of entries) {
    const equals = entry.indexOf("=");
    if (equals < 1) throw new Error("--set takes NAME=VALUE");
    settings[entry.slice(0, equals)] = entry.slice(equals + 1);
  }
  return settings;
}

function find(known: readonly Target[], name: string): Target {
  const target = known.find((candidate) => candidate.name === name);
  if (target === undefined)
    throw new Error(`no target ${name}; there are ${known.map((each) => each.name).join(", ")}`);
  return target;
}

if (import.meta.main) {
  await compare(process.argv.slice(2), { rounds: "3", only: "ours-fast,b,ours,b-durable,a-durable", json: false });
}
