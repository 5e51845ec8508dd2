// The memory for answers that are held in whole, of all calls of a process together: a thousand large ones at once would
// otherwise be its end. upstream.ts owns one, whole-answer.ts takes from it and must give back on every way out.
import { AppError } from "../errors.ts";
import { TryFailure } from "./try.ts";

const ROOM_BYTES_MAX = 512 * 1024 * 1024;

/** What one answer holds. */
export interface HeldRoom {
  /** Throws an `overloaded` TryFailure where there is no room for more: another actor may have some. */
  take(bytes: number): void;
  /** All of it. Idempotent. */
  release(): void;
}

export class AnswerRoom {
  #left: number;

  constructor(bytesMax = ROOM_BYTES_MAX) {
    this.#left = bytesMax;
  }

  hold(): HeldRoom {
    let held = 0;
    return {
      take: (bytes) => {
        if (bytes > this.#left) {
          const error = new AppError("model_overloaded", "The model has no room.", { retryAfterS: 1 });
          throw new TryFailure("overloaded", error, "actor");
        }
        held += bytes;
        this.#left -= bytes;
      },
      release: () => {
        this.#left += held;
        held = 0;
      },
    };
  }
}
