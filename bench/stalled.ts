// What readers that read nothing cost: `bun bench/stalled.ts`. Opens streams of chat completions, five hundred by default,
// each of more tokens than any buffer holds, reads none of it, and looks at the memory of the gateway and of the actor.
import { parseArgs } from "node:util";
import { type Children, withChildren } from "./children.ts";
import { runFolder } from "./home.ts";
import { processUse } from "./processes.ts";
import { table } from "./report.ts";
import type { Running } from "./running.ts";
import { startStack } from "./stack.ts";

const TOKENS = 20_000;
/** Shorter than the minute after which a gateway cuts a reader off that takes nothing. */
const LOOKS_S = [0, 5, 15, 30, 45];
const MODEL_MS_MAX = 20_000;
const LEFT_S = 10;

async function run(readers: number, children: Children): Promise<string[][]> {
  const settings = { DURABILITY: "fast", MODELS: "bench-echo", SIM_PORT: "0" };
  const stack = await startStack(runFolder("stalled"), children, { model: "bench-echo", settings });
  await hasModel(stack);
  const rows: string[][] = [];
  const look = async (when: string): Promise<void> => {
    const calls = await liveCalls(stack);
    const use = processUse(stack.processes);
    rows.push([when, calls, ...["gateway", "actor-0", "nats"].map((name) => `${use[name]?.rss_mb ?? Number.NaN}`)]);
  };
  await look("before");
  const sockets = await Promise.all(Array.from({ length: readers }, () => stall(stack)));
  let at = 0;
  for (const seconds of LOOKS_S) {
    await Bun.sleep((seconds - at) * 1_000);
    at = seconds;
    await look(`${seconds} s`);
  }
  for (const socket of sockets) socket.terminate();
  await Bun.sleep(LEFT_S * 1_000);
  await look("gone");
  return rows;
}

async function hasModel({ base, key }: Running): Promise<void> {
  const deadline = performance.now() + MODEL_MS_MAX;
  while (performance.now() < deadline) {
    const answer = await fetch(`${base}/v1/models/millrace-sim`, { headers: { "x-api-key": key } }).catch(() => null);
    if (answer?.ok) return;
    await Bun.sleep(50);
  }
  throw new Error("no model in time");
}

/** As the gateway says. */
async function liveCalls({ base }: Running): Promise<string> {
  const text = await (await fetch(`${base}/metrics`)).text();
  return /^millrace_live_calls\{.*\} (\d+)$/m.exec(text)?.[1] ?? "0";
}

/** A client that asks for much and reads nothing. */
function stall({ base, key }: Running): Promise<Bun.Socket> {
  const { hostname, port, host } = new URL(base);
  const messages = [{ role: "user", content: "Tell me all about rivers." }];
  const body = JSON.stringify({ model: "millrace-sim", stream: true, max_tokens: TOKENS, ignore_eos: true, messages });
  const head = `POST /v1/chat/completions HTTP/1.1\r\nhost: ${host}\r\nx-api-key: ${key}\r\n`;
  const request = `${head}content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
  return Bun.connect({
    hostname,
    port: Number(port),
    socket: {
      open: (socket) => {
        socket.write(request);
        socket.pause();
      },
      data: () => {},
    },
  });
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { readers: { type: "string", default: "500" } } });
  const rows = await withChildren((children) => run(Number(values.readers), children));
  console.log(table(["RSS MB", "calls", "gateway", "actor", "nats"], rows));
}
