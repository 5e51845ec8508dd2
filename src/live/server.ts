// The live calls of an actor: takes them from gateways over core NATS, and answers from the model servers that this actor
// reaches. The actor's composition root starts it, on a connection of its own. It plans nothing and knows no key of a
// client: the gateway chose the provider, the actor has its address. A gateway that dies is told of by the broker.
import type { Bus, BusMessage } from "../bus/connection.ts";
import { subjects } from "../bus/subjects.ts";
import type { Clock } from "../clock.ts";
import { messageOf } from "../errors.ts";
import { createUpstream } from "../llm/upstream.ts";
import { noUsage } from "../llm/usage-count.ts";
import { Watchdog } from "../llm/watchdog.ts";
import type { Log } from "../log.ts";
import type { ProviderAccess } from "../models/llm-catalogue.ts";
import { type Failed, type OpenFrame, parseToActor } from "./frames.ts";
import { createOutbox, type Outbox } from "./outbox.ts";
import { ServedCall } from "./served-call.ts";

export interface LiveServerOptions {
  /** A connection for tokens alone. */
  readonly bus: Bus;
  readonly actorId: string;
  readonly gpu: string;
  /** Throws `model_unavailable` for a provider that cannot be reached from here. */
  readonly provider: (name: string, gpu: string) => ProviderAccess;
  readonly clock: Clock;
  readonly log: Log;
  /** Calls at once; a gateway looks for another actor beyond it. */
  readonly callsMax?: number;
  /** Given by tests alone. */
  readonly beatMs?: number;
}

export interface LiveServer {
  /** Calls under way. */
  readonly size: number;
  /** Takes no new call, lets those under way end within `graceMs`, and cancels what is left. Idempotent. */
  stop(graceMs: number): Promise<void>;
}

const CALLS_MAX = 1_024;
/** Bodies that wait for their parts, or for their server, together. */
const BODIES_BYTES_MAX = 256 * 1024 * 1024;
/** How often a gateway hears of each call, and the actor of a gateway that is gone. */
const BEAT_MS = 5_000;

/** The broker has so long to take the last frames. */
const FLUSH_MS_MAX = 2_000;

interface Link {
  readonly outbox: Outbox;
  readonly calls: Map<number, ServedCall>;
}

export function startLiveServer(options: LiveServerOptions): LiveServer {
  const server = new Server(options);
  return {
    get size() {
      return server.size;
    },
    stop: (graceMs) => server.stop(graceMs),
  };
}

class Server {
  size = 0;
  readonly #options: LiveServerOptions;
  readonly #watchdog: Watchdog;
  readonly #upstream: ReturnType<typeof createUpstream>;
  readonly #links = new Map<string, Link>();
  readonly #inbox: string;
  readonly #stops: (() => void)[] = [];
  #bodiesBytes = 0;
  #draining = false;
  #onIdle: (() => void) | null = null;

  constructor(options: LiveServerOptions) {
    const { bus, actorId, clock, log } = options;
    this.#options = options;
    this.#watchdog = new Watchdog(clock);
    this.#upstream = createUpstream(this.#watchdog, log);
    this.#inbox = bus.inbox();
    const heard = bus.subscribe(subjects.liveActor(actorId), (message) => this.#hear(message));
    const gone = bus.subscribe(`${this.#inbox}.>`, (message) => {
      if (message.status === 503) this.#drop(message.subject.slice(this.#inbox.length + 1), "the gateway is gone");
    });
    const beats = setInterval(() => {
      for (const { calls } of this.#links.values()) for (const call of calls.values()) call.beat();
    }, options.beatMs ?? BEAT_MS);
    const stopLost = bus.onDisconnect(() => {
      for (const gateway of [...this.#links.keys()]) this.#drop(gateway, "the broker is gone");
    });
    this.#stops.push(
      () => heard.unsubscribe(),
      () => gone.unsubscribe(),
      () => clearInterval(beats),
      stopLost,
    );
  }

  async stop(graceMs: number): Promise<void> {
    this.#draining = true;
    if (this.size > 0) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, graceMs);
      this.#onIdle = resolve;
      await promise;
      clearTimeout(timer);
    }
    for (const gateway of [...this.#links.keys()]) this.#drop(gateway, "the actor ends");
    const stops = this.#stops.splice(0);
    if (stops.length === 0) return;
    for (const stop of stops) stop();
    // Whoever hears next that this actor is gone must have heard the ends of its answers before.
    await new Promise(setImmediate); // frames of this turn leave with it (outbox.ts)
    const { bus, log } = this.#options;
    if (!bus.connected) return;
    await bus.flush(FLUSH_MS_MAX).catch((error) => {
      log.warn({ error: messageOf(error) }, "last frames of answers may be lost");
    });
  }

  #hear(message: BusMessage): void {
    const heard = parseToActor(message.data);
    if (heard === null) return this.#options.log.debug({}, "a live frame is not readable");
    const { frame, bytes } = heard;
    if (frame.tag === "open") return this.#open(frame, bytes);
    const call = this.#links.get(frame.reply)?.calls.get(frame.call);
    if (frame.tag === "part") call?.part(bytes);
    else if (frame.tag === "credit") call?.credit(frame.bytes);
    else call?.cancel();
  }

  #open(open: OpenFrame, bytes: Uint8Array): void {
    const { actorId, gpu, provider, callsMax = CALLS_MAX } = this.#options;
    const link = this.#linkTo(open.reply);
    if (link.calls.has(open.call)) return; // said twice
    const address = found(() => provider(open.provider, gpu));
    const full = this.size >= callsMax || this.#bodiesBytes + open.bodyBytes > BODIES_BYTES_MAX;
    if (this.#draining || address === null || full) {
      const refused = this.#draining ? unavailable : full ? overloaded : { ...unavailable, blamed: "server" as const };
      link.outbox.send("failed", open.call, 0, 0, Buffer.from(JSON.stringify(refused)), true);
      if (link.calls.size === 0) this.#links.delete(open.reply);
      return;
    }
    this.size++;
    this.#bodiesBytes += open.bodyBytes;
    const onBodyGone = (): void => {
      this.#bodiesBytes -= open.bodyBytes;
    };
    const onOver = (): void => {
      this.size--;
      link.calls.delete(open.call);
      if (link.calls.size === 0) this.#links.delete(open.reply);
      if (this.size === 0) this.#onIdle?.();
    };
    const parts = {
      open,
      address,
      upstream: this.#upstream,
      watchdog: this.#watchdog,
      outbox: link.outbox,
      onBodyGone,
      onOver,
    };
    const call = new ServedCall(parts);
    link.calls.set(open.call, call);
    this.#options.log.debug({ request_id: open.requestId, actor: actorId }, "live call");
    call.part(bytes);
  }

  #linkTo(gateway: string): Link {
    const known = this.#links.get(gateway);
    if (known) return known;
    const { bus, clock } = this.#options;
    const link = {
      outbox: createOutbox((message) => {
        // The reply is where the broker tells that nobody hears the gateway any more.
        if (bus.connected) bus.publish(`${gateway}.frames`, message, `${this.#inbox}.${gateway}`);
      }, clock),
      calls: new Map(),
    };
    this.#links.set(gateway, link);
    return link;
  }

  /** The gateway is gone, or cannot be told anything: what it wanted nobody wants. */
  #drop(gateway: string, why: string): void {
    const link = this.#links.get(gateway);
    if (!link) return;
    this.#options.log.info({ calls: link.calls.size, why }, "live calls are cancelled");
    for (const call of [...link.calls.values()]) call.cancel();
  }
}

function found(find: () => ProviderAccess): ProviderAccess | null {
  try {
    return find();
  } catch {
    return null; // told to the gateway, which looks elsewhere
  }
}

const refusal = { ...noUsage, blamed: "actor" as const, retryAfterS: 1 };
const overloaded: Failed = {
  ...refusal,
  outcome: "overloaded",
  code: "model_overloaded",
  message: "The model has no room.",
};
const unavailable: Failed = {
  ...refusal,
  outcome: "failed",
  code: "model_unavailable",
  message: "No server of the model can be reached.",
};
