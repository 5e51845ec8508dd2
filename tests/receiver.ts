// A receiver of webhooks for a test: a server on loopback that remembers what it got and answers as it is told.
import { Webhook } from "standardwebhooks";
import { signal } from "./broker.ts";

export interface Received {
  readonly id: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** The answer to the `n`th request, counted from 1. */
export type Answer = (received: Received, n: number) => Response | Promise<Response>;

export interface Receiver {
  readonly url: string;
  readonly got: readonly Received[];
  /** Resolves when so many have come; throws after 20 s. */
  count(n: number): Promise<void>;
  /** Resolves when `holds` of what has come; throws after 20 s. */
  until(holds: () => boolean): Promise<void>;
  answer(answer: Answer): void;
  stop(): Promise<void>;
}

const ok: Answer = () => new Response(null, { status: 204 });

/** On `port`, or any free one. */
export function startReceiver(first: Answer = ok, port = 0): Receiver {
  const got: Received[] = [];
  const changed = signal();
  let answer = first;
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port,
    idleTimeout: 60,
    async fetch(request) {
      const { pathname, search } = new URL(request.url);
      const headers = Object.fromEntries(request.headers);
      const received = {
        id: headers["webhook-id"] ?? "",
        path: pathname + search,
        headers,
        body: await request.text(),
      };
      got.push(received);
      changed.notify();
      return answer(received, got.length);
    },
  });
  return {
    url: `http://127.0.0.1:${server.port}/hook`,
    got,
    count: (n) => changed.until(() => got.length >= n),
    until: changed.until,
    answer(next) {
      answer = next;
    },
    stop: () => server.stop(true),
  };
}

/** What the official library of Standard Webhooks makes of it: the body, parsed. Throws for a wrong signature. */
export const verified = (received: Received, secret: string): { type: string; timestamp: string; data: unknown } =>
  new Webhook(secret).verify(received.body, { ...received.headers }) as ReturnType<typeof verified>;
