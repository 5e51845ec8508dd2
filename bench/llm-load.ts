// The load generator of bench/llm.ts, a process of its own: streams of chat completions over bare sockets, a number of
// them at a time, and when each first and last token came. Prints one JSON line. For a trusted server on this machine.
import { parseArgs } from "node:util";
import { type Quantiles, quantiles, round } from "./statistics.ts";

export interface LlmLoad {
  readonly streams: number;
  readonly wall_ms: number;
  readonly ttft_ms: Quantiles;
  /** Per token of a stream, after its first. */
  readonly per_token_us: Quantiles;
  /** Events with data, `[DONE]` included: the same of every system where none is lost. */
  readonly events: number;
  readonly errors: number;
  readonly cpu_s: number;
}

const STREAM_MS_MAX = 20_000;
/** Longer than any answer that is asked for. */
const FACTS = `The river carries ${Array.from({ length: 60 }, (_, i) => `stone ${i}`).join(", ")}.`;

interface Options {
  readonly base: string;
  readonly key: string;
  readonly model: string;
  readonly tokens: number;
  /** Further lines of the head, each with its CRLF. */
  readonly head: string;
}

interface Streamed {
  readonly ttftMs: number;
  readonly perTokenUs: number;
  readonly events: number;
}

/** One connection, one stream after the other. */
class Client {
  readonly #options: Options;
  #socket: Bun.Socket | null = null;
  #onData: ((text: string) => void) | null = null;
  #onClose: ((error: Error) => void) | null = null;

  constructor(options: Options) {
    this.#options = options;
  }

  async stream(number: number): Promise<Streamed> {
    this.#socket ??= await this.#open();
    const socket = this.#socket;
    const { promise, resolve, reject } = Promise.withResolvers<Streamed>();
    const startMs = performance.now();
    let [events, firstMs, tail] = [0, 0, ""];
    this.#onClose = reject;
    this.#onData = (chunk) => {
      const text = tail + chunk;
      tail = text.slice(-5); // shorter than what is counted
      for (let at = text.indexOf("data: "); at >= 0; at = text.indexOf("data: ", at + 6)) events++;
      // The first event is the role alone.
      if (firstMs === 0 && events > 1) firstMs = performance.now();
      if (!text.endsWith("0\r\n\r\n")) return;
      const lastMs = performance.now();
      if (events < 2) reject(new Error(text.slice(0, 300)));
      resolve({
        ttftMs: firstMs - startMs,
        perTokenUs: ((lastMs - firstMs) * 1_000) / this.#options.tokens,
        events,
      });
    };
    socket.write(this.#request(number));
    const late = setTimeout(() => reject(new Error("no end of a stream")), STREAM_MS_MAX);
    return promise.finally(() => clearTimeout(late));
  }

  close(): void {
    this.#onClose = null;
    this.#socket?.end();
  }

  #request(number: number): string {
    const { base, key, model, tokens, head: further } = this.#options;
    const { host } = new URL(base);
    // No field of vLLM's own: a peer would drop it. The answer is the sentence that fits, cut at its limit.
    const body = JSON.stringify({
      model,
      stream: true,
      max_tokens: tokens,
      messages: [
        { role: "system", content: FACTS },
        { role: "user", content: `Number ${number}: what does the river carry?` },
      ],
    });
    const head = `POST /v1/chat/completions HTTP/1.1\r\nhost: ${host}\r\nauthorization: Bearer ${key}\r\n`;
    return `${head}${further}content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
  }

  #open(): Promise<Bun.Socket> {
    const { hostname, port } = new URL(this.#options.base);
    return Bun.connect({
      hostname,
      port: Number(port),
      socket: {
        open: (socket) => void socket.setNoDelay(true),
        data: (_, bytes) => this.#onData?.(bytes.toString("latin1")),
        close: () => this.#onClose?.(new Error("connection closed")),
      },
    });
  }
}

async function load(options: Options, concurrency: number, streams: number): Promise<LlmLoad> {
  const done: Streamed[] = [];
  let [next, errors] = [0, 0];
  const startMs = performance.now();
  const work = async (): Promise<void> => {
    const client = new Client(options);
    while (next < streams) {
      try {
        done.push(await client.stream(next++));
      } catch (error) {
        if (errors++ === 0) console.error(error);
        break;
      }
    }
    client.close();
  };
  await Promise.all(Array.from({ length: concurrency }, work));
  const { user, system } = process.cpuUsage();
  return {
    streams: done.length,
    wall_ms: round(performance.now() - startMs, 1),
    ttft_ms: quantiles(done.map(({ ttftMs }) => ttftMs)),
    per_token_us: quantiles(done.map(({ perTokenUs }) => perTokenUs)),
    events: done.reduce((sum, { events }) => sum + events, 0),
    errors,
    cpu_s: round((user + system) / 1e6, 2),
  };
}

if (import.meta.main) {
  const text = (fallback: string) => ({ type: "string", default: fallback }) as const;
  const { values } = parseArgs({
    options: {
      base: text(""),
      key: text(""),
      model: text(""),
      head: text(""),
      tokens: text("128"),
      c: text("1"),
      n: text("100"),
    },
  });
  const { base, key, model, head } = values;
  const options = { base, key, model, head, tokens: Number(values.tokens) };
  const report = await load(options, Number(values.c), Number(values.n));
  console.log(JSON.stringify(report));
}
