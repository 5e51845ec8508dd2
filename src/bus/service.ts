// One service on NATS, with one endpoint, as the NATS micro protocol has it (ADR-32): clients find it by $SRV.PING and
// $SRV.INFO, and read its counts by $SRV.STATS. Gateways start one each; the broker gives a request to one of them.
// It must never publish to a subject that a sender chose, other than an inbox, and never hold up the read loop.
import { type Clock, rfc3339 } from "../clock.ts";
import { messageOf } from "../errors.ts";
import { randomToken } from "../ids.ts";
import { answerable, type Bus, type BusMessage, type Headers } from "./connection.ts";
import { subjects } from "./subjects.ts";

export interface ServiceAnswer {
  readonly body: string;
  readonly headers: Headers;
  /** Becomes the headers `Nats-Service-Error-Code` and `Nats-Service-Error`. One line of ASCII. */
  readonly error: { readonly code: number; readonly description: string } | null;
}

export interface ServiceOptions {
  readonly bus: Bus;
  readonly clock: Clock;
  /** `[A-Za-z0-9_-]+`. */
  readonly name: string;
  /** Semantic. */
  readonly version: string;
  readonly description: string;
  readonly endpoint: {
    readonly name: string;
    readonly subject: string;
    readonly metadata: Readonly<Record<string, string>>;
    /** Must not throw, and must bound what it has under way. Not called for a message without an inbox to answer to. */
    handle(message: BusMessage): Promise<ServiceAnswer>;
  };
}

export interface Service {
  /** Takes no more requests; resolves when those under way are answered, or after `graceMs`. */
  stop(graceMs: number): Promise<void>;
}

/** The instances of a service share its requests. The protocol's own name for the group. */
const QUEUE = "q";

export function startService(options: ServiceOptions): Service {
  const { bus, clock, name, version, description, endpoint } = options;
  const identity = { name, id: randomToken(), version, metadata: {} };
  const started = rfc3339(clock.now());
  const counts = { num_requests: 0, num_errors: 0, last_error: "", processing_time: 0 };
  const running = new Set<Promise<void>>();

  const failed = (why: string): void => {
    counts.num_errors++;
    counts.last_error = why;
  };
  const answer = async (message: BusMessage): Promise<void> => {
    const startMs = clock.monotonicMs();
    const { body, headers, error } = await endpoint.handle(message);
    if (error) failed(`${error.code}:${error.description}`);
    if (!bus.respond(message, body, error ? { ...headers, ...errorHeaders(error) } : headers)) {
      failed("an answer found no connection");
    }
    counts.processing_time += Math.round((clock.monotonicMs() - startMs) * 1e6);
  };
  const requests = bus.subscribe(
    endpoint.subject,
    (message) => {
      counts.num_requests++;
      // Nobody would learn whether it was taken: it is not.
      if (!answerable(message)) return failed("a request without an inbox as its reply subject");
      const answering = answer(message).catch((error: unknown) => failed(messageOf(error)));
      running.add(answering);
      void answering.then(() => running.delete(answering));
    },
    QUEUE,
  );

  const { subject, metadata } = endpoint;
  const about = { name: endpoint.name, subject, queue_group: QUEUE };
  const statistics = () => {
    const average = Math.round(counts.processing_time / Math.max(1, counts.num_requests));
    return { ...about, ...counts, average_processing_time: average };
  };
  const responses = {
    PING: () => ({ type: "io.nats.micro.v1.ping_response", ...identity }),
    INFO: () => ({
      type: "io.nats.micro.v1.info_response",
      ...identity,
      description,
      endpoints: [{ ...about, metadata }],
    }),
    STATS: () => ({ type: "io.nats.micro.v1.stats_response", ...identity, started, endpoints: [statistics()] }),
  };
  const discovery = (["PING", "INFO", "STATS"] as const).flatMap((verb) =>
    [[], [name], [name, identity.id]].map((names) =>
      bus.subscribe(subjects.discovery(verb, ...names), (message) => {
        bus.respond(message, JSON.stringify(responses[verb]()));
      }),
    ),
  );

  return {
    async stop(graceMs) {
      for (const subscription of discovery) subscription.unsubscribe();
      const late = Promise.withResolvers<void>();
      const timer = setTimeout(late.resolve, graceMs);
      const settled = requests.drain().then(() => Promise.all(running));
      await Promise.race([settled, late.promise]);
      clearTimeout(timer);
    },
  };
}

const errorHeaders = ({ code, description }: { code: number; description: string }): Headers => ({
  "Nats-Service-Error-Code": String(code),
  "Nats-Service-Error": description,
});
