// What the world is told of a runner: the record that an actor announces and `GET /v1/models` shows. Made once at load
// from the definition; plain JSON, never a function or a TypeBox symbol.
import { AppError } from "../errors.ts";
import { closeSchema } from "./close.ts";
import { type AnyRunner, SDK_VERSION } from "./define.ts";
import { fileFields, publishedOutput } from "./file.ts";

/** It travels as one broker message with the actor's presence; the broker takes 1 MiB. */
const DESCRIPTION_BYTES_MAX = 256 * 1_024;
const TIMEOUT_MS_DEFAULT = 300_000;
const MAX_ATTEMPTS_DEFAULT = 3;

export interface RunnerDescription {
  readonly name: string;
  readonly version: string;
  readonly summary: string;
  /** Closed JSON Schema (2019-09). */
  readonly inputSchema: object;
  /** Closed JSON Schema of the task's `result`: files stand in it as the keys of their objects. */
  readonly outputSchema: object;
  readonly example?: unknown;
  /** Jobs at once in one actor; a runner that batches takes a full batch unless it says otherwise. */
  readonly slots: number;
  readonly timeoutMs: number;
  readonly maxAttempts: number;
  readonly sdk: number;
}

/** Throws `invalid_runner` for schemas that are not JSON Schema, misplaced files and descriptions above 256 KiB. */
export function describeRunner(definition: AnyRunner): RunnerDescription {
  const output = JSON.parse(JSON.stringify(definition.output));
  const description: RunnerDescription = {
    name: definition.name,
    version: definition.version,
    summary: definition.summary,
    inputSchema: closeSchema(definition.input),
    outputSchema: closeSchema(publishedOutput(output, fileFields(output))),
    ...(definition.example === undefined ? {} : { example: definition.example }),
    slots: definition.slots ?? ("batch" in definition ? definition.batch.max : 1),
    timeoutMs: definition.timeoutMs ?? TIMEOUT_MS_DEFAULT,
    maxAttempts: definition.maxAttempts ?? MAX_ATTEMPTS_DEFAULT,
    sdk: definition.sdk ?? SDK_VERSION,
  };
  if (Buffer.byteLength(JSON.stringify(description)) > DESCRIPTION_BYTES_MAX) {
    throw new AppError("invalid_runner", `schemas and example must fit in ${DESCRIPTION_BYTES_MAX} bytes`);
  }
  return description;
}
