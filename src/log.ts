// Structured logs: pino, one JSON line an event, on standard error. Field names are the field's own (task_id, model,
// attempt, gpu, trace_id); inputs and keys are never passed in.
import pino from "pino";

export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  child(fields: object): Log;
}

/** A log for one process. `part` is the process (gateway, actor, up); lines carry it with the pid. */
export function createLog(part: string, level: string): Log {
  return pino(
    { level, base: { part, pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime, messageKey: "message" },
    pino.destination({ dest: 2, sync: true }),
  );
}

/** For tests and tools that want no output. */
export const silentLog: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLog,
};
