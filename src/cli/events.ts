// A task's events over HTTP, from the first to the one that ends the task: read as a browser's EventSource does (WHATWG
// HTML §9.2), and opened again with `Last-Event-ID` whenever the stream breaks off or falls silent. Used by `watch`.
import { type Answer, type Client, CommandFailure, exitCodes } from "./client.ts";

export interface TaskEvent {
  readonly id: string;
  /** A status, or `progress`, `delta`, `log`, `reset`. */
  readonly event: string;
  /** JSON text. */
  readonly data: string;
}

export interface FollowLimits {
  /** The gateway says something at least every 5 s; after such a silence it is asked again. */
  readonly silenceMs: number;
  /** Without a word for so long it gives up. */
  readonly awayMs: number;
}

const followLimits: FollowLimits = { silenceMs: 20_000, awayMs: 60_000 };

/** An event is at most the broker's 1 MiB; what sends more in one piece is no gateway. */
const eventCharsMax = 4 * 1024 * 1024;
const pauseMsMin = 100;
const pauseMsMax = 2_000;

/**
 * The task's events, each once and in order. Ends when they do; whoever leaves earlier closes the connection. Throws a
 * CommandFailure: the gateway refuses, was away for too long, or the user interrupts.
 */
export async function* follow(
  client: Client,
  taskId: string,
  limits: FollowLimits = followLimits,
): AsyncGenerator<TaskEvent> {
  let lastEventId: string | undefined;
  let pauseMs = pauseMsMin;
  let heardMs = performance.now();
  for (;;) {
    try {
      const headers = {
        accept: "text/event-stream",
        ...(lastEventId !== undefined && { "last-event-id": lastEventId }),
      };
      const path = `/v1/tasks/${taskId}/events`;
      const answer = await client.call("GET", path, { headers, silenceMs: limits.silenceMs });
      if (answer.status === 204) return answer.close(); // there is nothing after the last one
      const parse = createEventParser();
      for await (const text of textsOf(answer)) {
        heardMs = performance.now();
        for (const event of parse(text)) {
          yield event;
          lastEventId = event.id;
          pauseMs = pauseMsMin;
        }
      }
    } catch (error) {
      const later = error instanceof CommandFailure && error.exitCode === exitCodes.unreachable;
      if (!later || performance.now() - heardMs > limits.awayMs) throw error;
    }
    await client.pause(pauseMs);
    pauseMs = Math.min(2 * pauseMs, pauseMsMax);
  }
}

async function* textsOf(answer: Answer): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  for await (const chunk of answer.chunks()) yield decoder.decode(chunk, { stream: true });
}

/** Takes the text of a stream in any pieces, and gives the events that each of them completes. */
export function createEventParser(): (text: string) => TaskEvent[] {
  let rest = "";
  let id = "";
  let event = "";
  let data: string[] = [];
  let dataChars = 0;
  const take = (line: string): TaskEvent | null => {
    if (line === "") {
      const complete = data.length > 0 ? { id, event, data: data.join("\n") } : null;
      event = "";
      data = [];
      dataChars = 0;
      return complete;
    }
    const [, name, value = ""] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? [];
    if (name === "id") id = value;
    else if (name === "event") event = value;
    else if (name === "data") {
      data.push(value);
      dataChars += value.length;
    }
    return null; // another name, or a comment, which has none: the gateway's beat
  };
  return (text) => {
    const lines = (rest + text).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? "";
    const complete = lines.flatMap((line) => take(line) ?? []);
    if (rest.length + dataChars > eventCharsMax) {
      throw new CommandFailure(exitCodes.refused, "the answer is no event stream of Millrace");
    }
    return complete;
  };
}
