// Memory for bodies that are arriving: how many bytes all large ones of a gateway may have together, and those of one
// key. dispatch.ts makes one, body.ts asks it. Without it a key with a thousand slow connections could take all memory.
import { AppError } from "../errors.ts";

const roomBytesMax = 512 * 1024 * 1024;
/** One key must not keep the others from sending pictures. */
const roomPerKeyBytesMax = roomBytesMax / 2;

/** The room of one body. */
export interface Reservation {
  /** Throws `not_ready` where there is no more room. */
  add(sizeBytes: number): void;
  /** Gives all of it back. Idempotent. */
  release(): void;
}

export interface BodyRoom {
  reserve(keyId: string): Reservation;
}

export function createBodyRoom(): BodyRoom {
  let inAll = 0;
  const keys = new Map<string, number>();
  const change = (keyId: string, byBytes: number): void => {
    inAll += byBytes;
    const ofKey = (keys.get(keyId) ?? 0) + byBytes;
    if (ofKey > 0) keys.set(keyId, ofKey);
    else keys.delete(keyId);
  };
  return {
    reserve(keyId) {
      let taken = 0;
      return {
        add(sizeBytes) {
          if (inAll + sizeBytes > roomBytesMax || (keys.get(keyId) ?? 0) + sizeBytes > roomPerKeyBytesMax) {
            throw new AppError("not_ready", "Too many large bodies are arriving here.", { retryAfterS: 1 });
          }
          taken += sizeBytes;
          change(keyId, sizeBytes);
        },
        release() {
          change(keyId, -taken);
          taken = 0;
        },
      };
    },
  };
}
