// Cron expressions and their occurrences in a time zone. The one place that knows the cron library; pure but for the
// zone rules of the platform. Schedules ask it when they are created and each time they fire.
import { Cron } from "croner";

/** Long enough for every list of minutes and days that a person writes. */
export const CRON_CHARS_MAX = 100;
/** Names as in the tz database; an offset is no zone: it would not follow the clock changes. */
export const timezonePattern = "^[A-Za-z][A-Za-z0-9_+/-]{0,63}$";

const SHORTHAND = /^@(?:yearly|annually|monthly|weekly|daily|midnight|hourly)$/;
const FIVE_FIELDS = /^[0-9A-Za-z*,/?#+-]+(?: [0-9A-Za-z*,/?#+-]+){4}$/;

/** The zone as the tz database writes it; null for one that it does not know. */
export function canonicalTimezone(name: string): string | null {
  if (!new RegExp(timezonePattern).test(name)) return null;
  try {
    return new Intl.DateTimeFormat("en", { timeZone: name }).resolvedOptions().timeZone;
  } catch {
    return null; // a RangeError: no such zone
  }
}

/**
 * When `cron` next occurs after `afterMs`, in milliseconds since the epoch; null where it never does, or is no cron
 * expression of five fields (minute hour day month weekday) or one of @hourly, @daily, @weekly, @monthly, @yearly.
 *
 * Where clocks go forward, a time that is left out occurs at the first moment after the gap, once; `*` and steps in the
 * hour follow the clock. Where they go back, a time that comes twice occurs the first time only; with `*` or a step in
 * the hour field both times. Day and weekday: either matches, where both are restricted.
 */
export function nextOccurrence(cron: string, timezone: string, afterMs: number): number | null {
  if (cron.length > CRON_CHARS_MAX || !(SHORTHAND.test(cron) || FIVE_FIELDS.test(cron))) return null;
  try {
    const next = new Cron(cron, { timezone, mode: "5-part" }).nextRun(new Date(afterMs));
    return next?.getTime() ?? null;
  } catch {
    return null; // a field out of range, or a name that is none
  }
}
