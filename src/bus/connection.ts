// The one connection of a process to NATS, as the rest of Millrace sees it: publish, request with a deadline, subscribe,
// and word of reconnects. Requests share one inbox (a muxed reply costs a third of what a JetStream client's publish
// does). It never queues work for a broker that is away: callers learn `broker_unavailable` and decide.

import { createInbox, type Msg, type NatsConnection } from "@nats-io/nats-core";
import type { NatsConnectionImpl } from "@nats-io/nats-core/internal";
import { type ConnectionOptions, connect } from "@nats-io/transport-node";
import { withDeadline } from "../deadline.ts";
import { AppError, messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { connectPlain } from "./socket-transport.ts";

export interface BusMessage {
  readonly subject: string;
  readonly reply: string;
  readonly data: Uint8Array;
  /** The status of a JetStream control message (404, 408, 409, 503…), 0 for a message with content. */
  readonly status: number;
  /** The value of the header with exactly this name; empty without it. */
  header(name: string): string;
  /** Every header with its values. Of the sender's making: any names, any values. */
  headers(): Iterable<[string, readonly string[]]>;
  text(): string;
}

export type Headers = Readonly<Record<string, string>>;

export interface Subscription {
  /** At once: what is on its way is dropped. Idempotent. */
  unsubscribe(): void;
  /** Ends the interest, and resolves when what was on its way has been handled. */
  drain(): Promise<void>;
}

export interface RequestOptions {
  readonly timeoutMs: number;
  /** Of our own making: names and values without CR or LF are the caller's care. */
  readonly headers?: Headers;
}

export interface Bus {
  readonly connected: boolean;
  /** The raw connection, for the management clients in this folder only. */
  readonly connection: NatsConnection;
  publish(subject: string, data: string | Uint8Array, reply?: string): void;
  /**
   * The first reply. Throws `broker_unavailable` on a timeout, a lost connection, or when nobody listens, and `internal`
   * for more than the broker's `max_payload` (1 MiB): it would cut the connection.
   */
  request(subject: string, data: string, options: RequestOptions): Promise<BusMessage>;
  /** Answers a request of a stranger. False, and nothing is sent, without a connection or where `answerable` is false. */
  respond(request: BusMessage, data: string, headers?: Headers): boolean;
  /**
   * `handler` must not throw; it runs in the read loop, so it must be quick. Of the subscribers with the same `queue`
   * each message reaches one.
   */
  subscribe(subject: string, handler: (message: BusMessage) => void, queue?: string): Subscription;
  /** Calls back after each reconnect, when subscriptions are in place again. Returns a function that stops it. */
  onReconnect(handler: () => void): () => void;
  onDisconnect(handler: () => void): () => void;
  /** Resolves when the broker has processed all that was sent. Throws `broker_unavailable` after `timeoutMs`. */
  flush(timeoutMs: number): Promise<void>;
  /** Resolves true as soon as the connection is up, false after `timeoutMs`. */
  whenConnected(timeoutMs: number): Promise<boolean>;
  /** A fresh inbox subject. */
  inbox(): string;
  close(): Promise<void>;
}

interface Waiting {
  readonly deadlineMs: number;
  readonly resolve: (message: BusMessage) => void;
  readonly reject: (error: Error) => void;
}

/**
 * Whether the reply subject is an inbox: `_INBOX…`, or what the broker puts in its place between accounts (`_R_`, `_GR_`).
 * The sender chose it; another one would have us write to a log, or to another service, in its stead.
 */
export const answerable = (request: BusMessage): boolean => /^_(INBOX|R_|GR_)/.test(request.reply);

const decoder = new TextDecoder();
const encoder = new TextEncoder();
/** Requests under way at once; beyond it a caller is told to come back. */
const REQUESTS_MAX = 65_536;
const SWEEP_MS = 100;

/** Reads of the library's message only what is asked for: most need neither the reply subject nor the headers. */
class Received implements BusMessage {
  private readonly message: Msg;

  constructor(message: Msg) {
    this.message = message;
  }

  get subject(): string {
    return this.message.subject;
  }

  get reply(): string {
    return this.message.reply ?? "";
  }

  get data(): Uint8Array {
    return this.message.data;
  }

  get status(): number {
    // Asked of every message; the library parses all headers when it is asked for them, and content has no status.
    return this.message.data.length === 0 ? (this.message.headers?.code ?? 0) : 0;
  }

  header(name: string): string {
    return this.message.headers?.get(name) ?? "";
  }

  headers(): Iterable<[string, readonly string[]]> {
    return this.message.headers ?? [];
  }

  text(): string {
    return decoder.decode(this.message.data);
  }
}

/**
 * A publish as one piece of bytes; the client's own checks each character of a header and encodes up to four pieces.
 * Subjects, names and values are of our making, in ASCII.
 */
function frame(subject: string, reply: string, headers: Headers | null, data: string): Uint8Array {
  const size = Buffer.byteLength(data);
  if (!headers) return encoder.encode(`PUB ${subject} ${reply} ${size}\r\n${data}\r\n`);
  let head = "NATS/1.0\r\n";
  for (const name in headers) head += `${name}: ${headers[name]}\r\n`;
  head += "\r\n";
  return encoder.encode(`HPUB ${subject} ${reply} ${head.length} ${head.length + size}\r\n${head}${data}\r\n`);
}

/** Connects; retries for `timeoutMs` before it throws `broker_unavailable`. Afterwards it reconnects for ever. */
export async function openBus(url: string, name: string, log: Log, timeoutMs = 10_000): Promise<Bus> {
  const connection = await dial({ ...connectionOptions(url, name), timeout: Math.min(timeoutMs, 5_000) }, timeoutMs);
  const { protocol } = connection as NatsConnectionImpl;
  const inboxPrefix = createInbox();
  const waiting = new Map<string, Waiting>();
  const reconnectHandlers = new Set<() => void>();
  const disconnectHandlers = new Set<() => void>();
  let connected = true;
  let nextToken = 0;

  const rejectAll = (why: string): void => {
    const pending = [...waiting.values()];
    waiting.clear();
    for (const entry of pending) entry.reject(new AppError("broker_unavailable", why, { retryAfterS: 1 }));
  };
  connection.subscribe(`${inboxPrefix}.*`, {
    callback: (error, message) => {
      const key = message.subject.slice(inboxPrefix.length + 1);
      const entry = waiting.get(key);
      if (!entry) return;
      waiting.delete(key);
      const reply = error ? null : new Received(message);
      if (!reply || reply.status === 503) {
        entry.reject(new AppError("broker_unavailable", "nobody serves this subject", { retryAfterS: 1 }));
      } else entry.resolve(reply);
    },
  });
  const sweep = setInterval(() => {
    const now = performance.now();
    for (const [key, entry] of waiting) {
      if (entry.deadlineMs > now) continue;
      waiting.delete(key);
      entry.reject(new AppError("broker_unavailable", "the broker did not answer in time", { retryAfterS: 1 }));
    }
  }, SWEEP_MS);

  const watching = (async () => {
    for await (const status of connection.status()) {
      // The client says so again for each dial that failed, and all of them once more when one succeeds.
      if (status.type === "disconnect" && connected) {
        connected = false;
        log.warn({}, "broker connection lost");
        rejectAll("the connection to the broker was lost");
        for (const handler of disconnectHandlers) handler();
      } else if (status.type === "reconnect" && !connected) {
        connected = true;
        log.info({}, "broker connection is back");
        for (const handler of reconnectHandlers) handler();
      }
    }
  })();

  const bus: Bus = {
    get connected() {
      return connected && !connection.isClosed();
    },
    connection,
    publish(subject, data, reply) {
      connection.publish(subject, data, reply === undefined ? undefined : { reply });
    },
    request(subject, data, options) {
      if (!bus.connected)
        return Promise.reject(new AppError("broker_unavailable", "no connection", { retryAfterS: 1 }));
      if (waiting.size >= REQUESTS_MAX) {
        return Promise.reject(new AppError("broker_unavailable", "too many requests under way", { retryAfterS: 1 }));
      }
      const key = (nextToken++).toString(36);
      const reply = `${inboxPrefix}.${key}`;
      const bytes = frame(subject, reply, options.headers ?? null, data);
      if (bytes.length > (protocol.info?.max_payload ?? 0)) {
        return Promise.reject(new AppError("internal", `${bytes.length} bytes are more than the broker takes at once`));
      }
      return new Promise((resolve, reject) => {
        waiting.set(key, { deadlineMs: performance.now() + options.timeoutMs, resolve, reject });
        protocol.sendCommand(bytes);
      });
    },
    respond(request, data, headers) {
      if (!answerable(request) || !bus.connected) return false;
      protocol.sendCommand(frame(request.reply, "", headers ?? null, data));
      return true;
    },
    subscribe(subject, handler, queue) {
      const subscription = connection.subscribe(subject, {
        ...(queue !== undefined && { queue }),
        callback: (error, message) => {
          if (!error) handler(new Received(message));
        },
      });
      return {
        unsubscribe: () => subscription.unsubscribe(),
        // A connection that is gone has nothing on its way.
        drain: () => subscription.drain().catch(() => subscription.unsubscribe()),
      };
    },
    onReconnect(handler) {
      reconnectHandlers.add(handler);
      return () => reconnectHandlers.delete(handler);
    },
    onDisconnect(handler) {
      disconnectHandlers.add(handler);
      return () => disconnectHandlers.delete(handler);
    },
    async flush(flushTimeoutMs) {
      const flushed = connection.flush().catch((error) => {
        throw new AppError("broker_unavailable", "the connection to the broker was lost", {
          cause: error,
          retryAfterS: 1,
        });
      });
      const why = "the broker did not answer in time";
      const late = (): Error => new AppError("broker_unavailable", why, { retryAfterS: 1 });
      await withDeadline(flushed, flushTimeoutMs, late);
    },
    whenConnected(waitMs) {
      if (bus.connected) return Promise.resolve(true);
      return new Promise((resolve) => {
        const settle = (value: boolean): void => {
          clearTimeout(timer);
          stop();
          resolve(value);
        };
        const timer = setTimeout(() => settle(false), waitMs);
        const stop = bus.onReconnect(() => settle(true));
      });
    },
    inbox: () => createInbox(),
    async close() {
      clearInterval(sweep);
      rejectAll("this process is shutting down");
      await connection.close();
      await watching;
    },
  };
  return bus;
}

/** How every connection of Millrace behaves: found dead within seconds, reconnecting for ever, quickly at first. */
function connectionOptions(url: string, name: string): ConnectionOptions {
  return {
    servers: url.split(","),
    name,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 100,
    reconnectJitter: 100,
    pingInterval: 5_000,
    maxPingOut: 2,
    ...credentials(url),
  };
}

/** `nats://token@host` and `nats://user:password@host`, which the client does not read from the URL by itself. */
function credentials(url: string): { token?: string; user?: string; pass?: string } {
  const first = url.split(",")[0] ?? "";
  const match = /^(?:\w+:\/\/)?([^/@]+)@/.exec(first);
  if (!match?.[1]) return {};
  const [user, pass] = match[1].split(":").map(decodeURIComponent);
  if (user === undefined) return {};
  return pass === undefined ? { token: user } : { user, pass };
}

async function dial(options: ConnectionOptions, timeoutMs: number): Promise<NatsConnection> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    try {
      return await (/^tls:/.test(String(options.servers)) ? connect(options) : connectPlain(options));
    } catch (error) {
      // What time does not mend: a wrong token, a wrong URL. Anything else may be a broker that is not up yet.
      const final = error instanceof Error && /Auth|Invalid|Protocol/.test(error.name);
      if (final || performance.now() > deadline) {
        throw new AppError("broker_unavailable", `cannot connect to the broker: ${messageOf(error)}`, { cause: error });
      }
      await Bun.sleep(50);
    }
  }
}
