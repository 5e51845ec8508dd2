// What a model server prints, as lines of this actor's log. model-server.ts reads both of its outputs by it. It always
// reads on, since a server whose output is full stands still, and never writes more than a disk and this process bear.
import type { Clock } from "../clock.ts";
import type { Log } from "../log.ts";

const LINE_CHARS_MAX = 2_000;
/** In a second, of one output: a server that starts prints dozens, one that has gone wrong a hundred thousand. */
const LINES_MAX = 200;
const WINDOW_MS = 1_000;

/** A log line for each line of `stream`, until it ends; how many were too many is said, about once a second. */
export async function logLines(stream: ReadableStream<Uint8Array>, log: Log, clock: Clock): Promise<void> {
  const decoder = new TextDecoder();
  const output = new Output(log, clock);
  let rest = "";
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = (lines.pop() ?? "").slice(0, LINE_CHARS_MAX);
    for (const line of lines) output.say(line);
  }
  output.say(rest);
  output.tellSkipped();
}

class Output {
  readonly #log: Log;
  readonly #clock: Clock;
  #untilMs = Number.NEGATIVE_INFINITY;
  #left = 0;
  #skipped = 0;

  constructor(log: Log, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  say(line: string): void {
    const text = line.slice(0, LINE_CHARS_MAX).trimEnd();
    if (text === "") return;
    const nowMs = this.#clock.monotonicMs();
    if (nowMs >= this.#untilMs) {
      this.tellSkipped();
      this.#untilMs = nowMs + WINDOW_MS;
      this.#left = LINES_MAX;
    }
    if (this.#left === 0) {
      this.#skipped++;
      return;
    }
    this.#left--;
    this.#log.info({ from: "model server" }, text);
  }

  tellSkipped(): void {
    if (this.#skipped === 0) return;
    this.#log.warn(
      { from: "model server", lines: this.#skipped },
      "the model server prints too much: lines are left out",
    );
    this.#skipped = 0;
  }
}
