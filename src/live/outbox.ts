// The frames of an actor to one gateway, of all its calls. What somebody waits for (an answer's head and first content,
// its end) leaves at once, with all that stands before it; tokens leave once a millisecond at most, together, so that
// five hundred streams, or one that gushes, do not cost the broker and the gateway a message each. A stream that flows
// like speech waits for nothing. server.ts makes one for each gateway; what it may hold is bounded by credit.
import type { Clock } from "../clock.ts";
import { type EncodedFrame, encodeLine, encodeToGateway, type GatewayTag, PART_BYTES_MAX } from "./frames.ts";

export interface Outbox {
  /** `isUrgent`: it does not wait for the millisecond. */
  send(tag: GatewayTag, call: number, number: number, tokens: number, bytes: Uint8Array, isUrgent: boolean): void;
}

/** Between two messages of tokens. A tenth of what a token takes on a fast GPU. */
const INTERVAL_MS = 1;

/** `publish` gets each message; it must not throw. */
export function createOutbox(publish: (message: Uint8Array) => void, clock: Pick<Clock, "monotonicMs">): Outbox {
  let frames: EncodedFrame[] = [];
  let size = 0;
  let sentAtMs = Number.NEGATIVE_INFINITY;
  /** The end of the turn, where more may follow in it. */
  let isTurnWatched = false;
  let late: ReturnType<typeof setTimeout> | null = null;
  const flush = (): void => {
    if (late !== null) clearTimeout(late);
    late = null;
    if (frames.length === 0) return;
    sentAtMs = clock.monotonicMs();
    const message = encodeToGateway(frames, size);
    frames = [];
    size = 0;
    publish(message);
  };
  const endTurn = (): void => {
    isTurnWatched = false;
    flush();
  };
  return {
    send(tag, call, number, tokens, bytes, isUrgent) {
      const line = encodeLine(tag, call, number, tokens, bytes.length);
      if (size > 0 && size + line.length + bytes.length > PART_BYTES_MAX) flush();
      frames.push({ line, bytes });
      size += line.length + bytes.length;
      if (isTurnWatched) return;
      if (!isUrgent && clock.monotonicMs() - sentAtMs < INTERVAL_MS) {
        late ??= setTimeout(flush, INTERVAL_MS);
        return;
      }
      // Before the flush: it is to run before the connection's own write of this turn.
      isTurnWatched = true;
      setImmediate(endTurn);
      flush();
    },
  };
}
