// What idle followers cost: `bun bench/streams.ts`. Opens event streams of tasks that wait, a thousand by default, and
// reads the memory of the gateway before, while they are open, and after they have left.
import { parseArgs } from "node:util";
import { type Children, withChildren } from "./children.ts";
import { runFolder } from "./home.ts";
import { processUse } from "./processes.ts";
import { table } from "./report.ts";
import type { Running } from "./running.ts";
import { startStack } from "./stack.ts";

/** Long enough for a garbage collection and for the beats of the streams. */
const SETTLE_MS = 15_000;
const OPEN_MS_MAX = 30_000;
const BATCH = 50;

async function run(clients: number, children: Children): Promise<string[][]> {
  const settings = { DURABILITY: "fast", MODELS: "bench-echo" };
  const stack = await startStack(runFolder("streams"), children, { model: "bench-echo", settings });
  const rssMb = (): number => processUse(stack.processes).gateway?.rss_mb ?? Number.NaN;
  const ids = await waitingTasks(stack, clients);
  await Bun.sleep(SETTLE_MS);
  const before = rssMb();
  const open: Bun.Socket[] = [];
  for (let i = 0; i < clients; i += BATCH) {
    open.push(...(await Promise.all(ids.slice(i, i + BATCH).map((id) => follow(stack, id)))));
  }
  await Bun.sleep(SETTLE_MS);
  const during = rssMb();
  for (const socket of open) socket.end();
  await Bun.sleep(SETTLE_MS);
  return [[`${open.length}`, `${before}`, `${during}`, `${during - before}`, `${rssMb()}`]];
}

/** Tasks that are due tomorrow: nothing happens to them meanwhile. */
async function waitingTasks({ base, key, model }: Running, count: number): Promise<string[]> {
  const ids: string[] = [];
  for (let i = 0; i < count; i += BATCH) {
    const tasks = Array.from({ length: Math.min(BATCH, count - i) }, () => ({
      model,
      input: { text: "hi" },
      delay_ms: 86_400_000,
    }));
    const answer = await fetch(`${base}/v1/tasks/batch`, {
      method: "POST",
      headers: { "x-api-key": key, "content-type": "application/json" },
      body: JSON.stringify({ tasks }),
    });
    const { results } = (await answer.json()) as { results: { task_id: string }[] };
    ids.push(...results.map((result) => result.task_id));
  }
  return ids;
}

/** Resolves to the socket when the first event has come. A bare socket: `fetch` keeps to 256 requests at once. */
function follow({ base, key }: Running, id: string): Promise<Bun.Socket> {
  const { hostname, port, host } = new URL(base);
  const first = Promise.withResolvers<Bun.Socket>();
  setTimeout(() => first.reject(new Error("no event in time")), OPEN_MS_MAX).unref();
  let text = "";
  const failed = (): void => first.reject(new Error(`no stream: ${text.slice(0, 200)}`));
  Bun.connect({
    hostname,
    port: Number(port),
    socket: {
      open: (socket) => {
        socket.write(`GET /v1/tasks/${id}/events HTTP/1.1\r\nhost: ${host}\r\nx-api-key: ${key}\r\n\r\n`);
      },
      data: (socket, bytes) => {
        text = `${text}${bytes.toString()}`.slice(0, 4_096);
        if (text.startsWith("HTTP/1.1 200") && text.includes("event: PENDING")) first.resolve(socket);
      },
      close: failed,
    },
  }).catch(first.reject);
  return first.promise;
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { clients: { type: "string", default: "1000" } } });
  const rows = await withChildren((children) => run(Number(values.clients), children));
  console.log(table(["streams", "gateway MB before", "while open", "difference", "after"], rows));
}
