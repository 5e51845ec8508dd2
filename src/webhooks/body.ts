// What a webhook sends, byte for byte. Pure.
import { rfc3339 } from "../clock.ts";

/** `dataJson` is the public task object as JSON text. */
export const webhookBody = (type: string, timeMs: number, dataJson: string): string =>
  `{"type":"${type}","timestamp":"${rfc3339(timeMs)}","data":${dataJson}}`;
