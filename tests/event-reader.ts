// Reads a task's server-sent events in a test, as a client would: whole, from an id on, or until something is seen.
import type { Stack } from "./stack.ts";

export interface ReadEvent {
  readonly id: string;
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

export interface ReadOptions {
  readonly lastEventId?: string;
  /** Aborts the request. Default: after 60 s. */
  readonly signal?: AbortSignal;
}

export const openEvents = (stack: Stack, taskId: string, options: ReadOptions = {}): Promise<Response> =>
  fetch(`${stack.url}/v1/tasks/${taskId}/events`, {
    headers: {
      "x-api-key": stack.key,
      ...(options.lastEventId !== undefined && { "last-event-id": options.lastEventId }),
    },
    signal: options.signal ?? AbortSignal.timeout(60_000),
  });

/** The events as they come; leaving the loop closes the connection. Throws where it is cut or not answered with 200. */
export async function* events(stack: Stack, taskId: string, options: ReadOptions = {}): AsyncGenerator<ReadEvent> {
  const response = await openEvents(stack, taskId, options);
  if (response.status !== 200 || !response.body) throw new Error(`events: ${response.status}`);
  let text = "";
  const decoder = new TextDecoder();
  for await (const chunk of response.body) {
    text += decoder.decode(chunk, { stream: true });
    const blocks = text.split("\n\n");
    text = blocks.pop() ?? "";
    for (const block of blocks) {
      const fields = new Map(block.split("\n").map((line) => [line.split(": ")[0], line.replace(/^\w+: /, "")]));
      const id = fields.get("id");
      if (id === undefined) continue; // the preamble, or a beat
      yield { id, event: fields.get("event") ?? "", data: JSON.parse(fields.get("data") ?? "") };
    }
  }
}

/** All events of a task that ends, or the first ones up to and with the one that `last` is true of. */
export async function readEvents(
  stack: Stack,
  taskId: string,
  options: ReadOptions & { readonly last?: (event: ReadEvent) => boolean } = {},
): Promise<ReadEvent[]> {
  const seen: ReadEvent[] = [];
  for await (const event of events(stack, taskId, options)) {
    seen.push(event);
    if (options.last?.(event)) break;
  }
  return seen;
}

export const names = (read: readonly ReadEvent[]): string[] => read.map(({ event }) => event);
export const ids = (read: readonly ReadEvent[]): string[] => read.map(({ id }) => id);
