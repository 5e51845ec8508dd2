// The way of a gateway to all actors, for live calls: one inbox for the frames of every call, and word of actors that are
// gone. caller.ts opens calls on it. It runs on a connection of its own, so that a flood of tokens delays nothing else.
import type { Bus, BusMessage } from "../bus/connection.ts";
import { subjects } from "../bus/subjects.ts";
import { AppError } from "../errors.ts";
import { estimatePromptTokens } from "../llm/estimate.ts";
import { type Try, type TryAnswer, TryFailure } from "../llm/try.ts";
import type { Watchdog } from "../llm/watchdog.ts";
import type { Log } from "../log.ts";
import { BODY_BYTES_MAX, encodeToActor, PART_BYTES_MAX, parseToGateway, type ToActor } from "./frames.ts";
import { RemoteCall } from "./remote-call.ts";

/**
 * What an answer may be ahead of its reader: two hundred tokens, which a round trip never needs. A thousand calls that
 * nobody reads stay below what a connection may hold back.
 */
const WINDOW_BYTES = 32 * 1024;
/** A call beats every 5 s; one that is silent for so long has lost its actor, or that one its senses. */
const SILENCE_MS_MAX = 20_000;
const EMPTY = new Uint8Array();

export interface GatewayLink {
  /** Throws TryFailure, or the signal's reason. */
  open(attempt: Try): Promise<TryAnswer>;
  /** Its presence is gone: calls at it fail at once. */
  actorGone(actorId: string): void;
  stop(): void;
}

/** `silenceMs` is given by tests alone. */
export function createGatewayLink(bus: Bus, watchdog: Watchdog, log: Log, silenceMs = SILENCE_MS_MAX): GatewayLink {
  const inbox = bus.inbox();
  const calls = new Map<number, RemoteCall>();
  let nextCall = 1;

  const hear = (message: BusMessage): void => {
    if (message.data.length === 0) {
      // The broker says that nobody hears an actor's subject.
      if (message.status === 503) calls.get(Number(message.subject.slice(inbox.length + 1)))?.lost();
      return;
    }
    const nowMs = watchdog.now();
    const whole = parseToGateway(message.data, (frame) => {
      const call = calls.get(frame.call);
      if (call === undefined) return; // cancelled a moment ago
      call.heardAtMs = nowMs;
      call.take(frame);
    });
    if (!whole) log.warn({}, "a message of live frames is not readable");
  };
  const subscription = bus.subscribe(`${inbox}.>`, hear);
  const lostAll = (): void => {
    for (const call of [...calls.values()]) call.lost();
  };
  const stopLost = bus.onDisconnect(lostAll);

  return {
    async open(attempt) {
      attempt.signal.throwIfAborted();
      if (!bus.connected) throw unreachable();
      const { actorId, body, request } = attempt;
      if (body.bytes.length > BODY_BYTES_MAX) throw new AppError("payload_too_large", "The request is too large.");
      const id = nextCall++;
      const subject = subjects.liveActor(actorId);
      const publish = (frame: ToActor, bytes?: Uint8Array): void => {
        if (bus.connected) bus.publish(subject, encodeToActor(frame, bytes), `${inbox}.${id}`);
      };
      const of = { call: id, reply: inbox };
      // Let go of when it is sent: what these functions hold lives as long as the answer.
      let rest: Uint8Array | null = body.bytes;
      const nextPart = (): Uint8Array => {
        const part = rest?.subarray(0, PART_BYTES_MAX) ?? EMPTY;
        rest = rest && rest.length > part.length ? rest.subarray(part.length) : null;
        return part;
      };
      const promptEstimate = estimatePromptTokens(request.body);
      const openedAtMs = watchdog.now();
      const call = new RemoteCall({
        actorId,
        signal: attempt.signal,
        promptEstimate,
        window: WINDOW_BYTES,
        onTaken: () => publish({ ...of, tag: "part" }, nextPart()),
        giveCredit: (bytes) => publish({ ...of, tag: "credit", bytes }),
        onOver(early) {
          calls.delete(id);
          watched.stop();
          if (early) publish({ ...of, tag: "cancel" });
        },
      });
      const onSilence = (): void => {
        const dueMs = Math.max(openedAtMs, call.heardAtMs) + silenceMs;
        if (dueMs <= watchdog.now()) return call.lost();
        watched = watchdog.watch(dueMs, onSilence);
      };
      let watched = watchdog.watch(openedAtMs + silenceMs, onSilence);
      calls.set(id, call);
      const { provider } = attempt.target;
      const { endpoint, stream, streamUsage, requestId } = request;
      const timeMs = Math.max(1, Math.ceil(attempt.deadlineMs - openedAtMs));
      const told = { provider, endpoint, stream, streamUsage, requestId, promptEstimate, timeMs, window: WINDOW_BYTES };
      const { contentType, bytes } = body;
      publish({ ...of, ...told, tag: "open", contentType, bodyBytes: bytes.length }, nextPart());
      return call.opened;
    },
    actorGone(actorId) {
      for (const call of [...calls.values()]) if (call.actorId === actorId) call.lost();
    },
    stop() {
      lostAll();
      stopLost();
      subscription.unsubscribe();
    },
  };
}

const unreachable = (): TryFailure =>
  new TryFailure(
    "failed",
    new AppError("model_unavailable", "No server of the model can be reached.", { retryAfterS: 1 }),
    "actor",
  );
