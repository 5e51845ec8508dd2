// The frames of an actor to one gateway, of all its calls: the first of a turn of the event loop leaves at once, those
// that follow in the same turn leave together, so that five hundred streams cost the broker one message and not five
// hundred. Nothing waits for the next turn. server.ts makes one for each gateway; what it may hold is bounded by credit.
import type { Bus } from "../bus/connection.ts";
import { type EncodedFrame, encodeLine, encodeToGateway, type GatewayTag, PART_BYTES_MAX } from "./frames.ts";

export interface Outbox {
  send(tag: GatewayTag, call: number, number: number, tokens: number, bytes: Uint8Array): void;
}

const EMPTY = new Uint8Array();

/** `noResponders` is where the broker tells that nobody hears `subject` any more. */
export function createOutbox(bus: Bus, subject: string, noResponders: string): Outbox {
  let frames: EncodedFrame[] = [];
  let size = 0;
  let scheduled = false;
  const publish = (): void => {
    if (frames.length === 0) return;
    if (bus.connected) bus.publish(subject, encodeToGateway(frames, size), noResponders);
    frames = [];
    size = 0;
  };
  const flush = (): void => {
    scheduled = false;
    publish();
  };
  return {
    send(tag, call, number, tokens, bytes = EMPTY) {
      const line = encodeLine(tag, call, number, tokens, bytes.length);
      if (size > 0 && size + line.length + bytes.length > PART_BYTES_MAX) publish();
      frames.push({ line, bytes });
      size += line.length + bytes.length;
      if (scheduled) return;
      // Before the publish: it is to run before the connection's own write of this turn.
      scheduled = true;
      setImmediate(flush);
      publish();
    },
  };
}
