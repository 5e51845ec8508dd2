// The jobs an actor holds, in a memory-mapped file: the actor writes, its beat thread reads, and after a death of the
// process the supervisor reads what was in it. Memory of the kernel's page cache, so it survives SIGKILL of the writer,
// and a write costs no system call. One writer; the beat thread adds only the fates, with which it ends the process.
//
//   slot: free ── hold() ──► held ── release() ──► free
//
// A slot that is written while it is read shows by its version (a sequence lock): odd during a write, another after it.
import { closeSync, existsSync, ftruncateSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** Jobs held at once, running or being written down; also bounds the slots of an actor. */
export const HELD_MAX = 512;
const SLOT_BYTES = 512;
const HEADER_BYTES = 64;
const MAGIC = 0x4d524233; // "MRB3": the layout below
const VERSION_AT = 4;
const TEXT_AT = 40;
/** A write takes a microsecond; a writer that was put to sleep in one is read at the next look. */
const READS_MAX = 100;

/**
 * Why the process ended, as far as this job is concerned: itself, nobody knows why (`crash`); by its beat thread for
 * this job's sake (`timeout`, `cancel`) or for another's (`neighbour`).
 */
export type Fate = (typeof fates)[number];
const fates = ["crash", "timeout", "cancel", "neighbour"] as const;

/** Where the actor of a GPU keeps its board; `folder` is DATA_DIR/run. */
export const boardPath = (folder: string, gpu: string): string => join(folder, `actor-${gpu}.board`);

export interface HeldJob {
  /** Where acks of this delivery go. */
  readonly ackSubject: string;
  /** `millrace.jobs.…`: names partition, level, lane, model and task. */
  readonly jobSubject: string;
  readonly attempt: number;
  /** Deaths of the process before this attempt. */
  readonly crashes: number;
  readonly maxAttempts: number;
  /** When the attempt must have ended, milliseconds since the epoch; 0 while it has not begun. */
  readonly deadlineMs: number;
  /** Number of the last event published in this attempt. */
  readonly eventNumber: number;
}

/** A job as another thread or process reads it. */
export interface BoardJob extends HeldJob {
  readonly slot: number;
  readonly fate: Fate;
}

export interface Board {
  /** Index of the new slot. Throws RangeError when all are taken or the subjects are too long: a broken invariant. */
  hold(job: HeldJob): number;
  /** The attempt begins: its number, deadline and history are known. */
  begin(index: number, attempt: number, crashes: number, maxAttempts: number, deadlineMs: number): void;
  setEventNumber(index: number, eventNumber: number): void;
  release(index: number): void;
  readonly heldCount: number;
}

/** Makes the file anew and maps it. */
export function createBoard(path: string): Board {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const descriptor = openSync(path, "w+", 0o600);
  ftruncateSync(descriptor, HEADER_BYTES + HELD_MAX * SLOT_BYTES);
  closeSync(descriptor);
  const bytes = Bun.mmap(path, { shared: true });
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  view.setUint32(0, MAGIC);
  view.setUint32(4, process.pid);
  const versions = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);
  const encoder = new TextEncoder();
  const written = (at: number, write: () => void): void => {
    Atomics.add(versions, (at + VERSION_AT) >> 2, 1);
    write();
    Atomics.add(versions, (at + VERSION_AT) >> 2, 1);
  };
  const free = Array.from({ length: HELD_MAX }, (_, i) => HELD_MAX - 1 - i);

  return {
    get heldCount() {
      return HELD_MAX - free.length;
    },
    hold(job) {
      const index = free.at(-1);
      if (index === undefined) throw new RangeError("the scoreboard is full");
      const at = HEADER_BYTES + index * SLOT_BYTES;
      const text = encoder.encode(`${job.ackSubject}\n${job.jobSubject}`);
      if (text.length > SLOT_BYTES - TEXT_AT) throw new RangeError("a subject does not fit into the scoreboard");
      written(at, () => {
        bytes.set(text, at + TEXT_AT);
        view.setUint8(at + 1, 0);
        view.setUint16(at + 2, text.length);
        view.setUint32(at + 20, job.eventNumber);
        write(view, at, job.attempt, job.crashes, job.maxAttempts, job.deadlineMs);
        view.setUint8(at, 1); // last: who reads it after a death sees either no job or all of it
      });
      free.pop();
      return index;
    },
    begin(index, attempt, crashes, maxAttempts, deadlineMs) {
      const at = HEADER_BYTES + index * SLOT_BYTES;
      written(at, () => write(view, at, attempt, crashes, maxAttempts, deadlineMs));
    },
    setEventNumber(index, eventNumber) {
      view.setUint32(HEADER_BYTES + index * SLOT_BYTES + 20, eventNumber);
    },
    release(index) {
      view.setUint8(HEADER_BYTES + index * SLOT_BYTES, 0);
      free.push(index);
    },
  };
}

function write(
  view: DataView,
  at: number,
  attempt: number,
  crashes: number,
  maxAttempts: number,
  deadlineMs: number,
): void {
  view.setUint32(at + 8, attempt);
  view.setUint32(at + 12, crashes);
  view.setUint32(at + 16, maxAttempts);
  view.setFloat64(at + 24, deadlineMs);
}

/** The job of a slot as it is now, null for none. */
function readSlot(bytes: Uint8Array, view: DataView, slot: number): BoardJob | null {
  const at = HEADER_BYTES + slot * SLOT_BYTES;
  if (view.getUint8(at) !== 1) return null;
  const text = decoder.decode(bytes.subarray(at + TEXT_AT, at + TEXT_AT + view.getUint16(at + 2)));
  const [ackSubject = "", jobSubject = ""] = text.split("\n");
  return {
    slot,
    fate: fates[view.getUint8(at + 1)] ?? "crash",
    ackSubject,
    jobSubject,
    attempt: view.getUint32(at + 8),
    crashes: view.getUint32(at + 12),
    maxAttempts: view.getUint32(at + 16),
    eventNumber: view.getUint32(at + 20),
    deadlineMs: view.getFloat64(at + 24),
  };
}

const decoder = new TextDecoder();

/** The jobs of a board, each read by `read`. */
function heldJobs(bytes: Uint8Array, read: typeof readSlot): BoardJob[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.byteLength < HEADER_BYTES || view.getUint32(0) !== MAGIC) return [];
  const jobs: BoardJob[] = [];
  for (let slot = 0; HEADER_BYTES + (slot + 1) * SLOT_BYTES <= bytes.byteLength; slot++) {
    const job = read(bytes, view, slot);
    if (job) jobs.push(job);
  }
  return jobs;
}

/** What a dead actor held. Empty when there is no board at `path`. */
export function readBoard(path: string): BoardJob[] {
  // A job that was begun just then counts, though its numbers may be of before: it must not be lost.
  return existsSync(path) ? heldJobs(readFileSync(path), readSlot) : [];
}

export interface WatchedBoard {
  jobs(): BoardJob[];
  /** Says why the process is about to be ended: whoever reads the board afterwards hands the job back so. */
  seal(slot: number, fate: Fate): void;
}

/** A live view of a board that another thread writes. */
export function watchBoard(path: string): WatchedBoard {
  const bytes = Bun.mmap(path, { shared: true });
  const versions = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);
  const readLive: typeof readSlot = (_, view, slot) => {
    const version = (HEADER_BYTES + slot * SLOT_BYTES + VERSION_AT) >> 2;
    for (let reads = 0; reads < READS_MAX; reads++) {
      const before = Atomics.load(versions, version);
      if (before & 1) continue;
      const job = readSlot(bytes, view, slot);
      if (Atomics.load(versions, version) === before) return job;
    }
    return null;
  };
  return {
    jobs: () => heldJobs(bytes, readLive),
    seal(slot, fate) {
      bytes[HEADER_BYTES + slot * SLOT_BYTES + 1] = fates.indexOf(fate);
    },
  };
}

/** The process that wrote the board; null when there is no board. */
export function boardPid(path: string): number | null {
  if (!existsSync(path)) return null;
  const bytes = readFileSync(path);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return bytes.byteLength >= HEADER_BYTES && view.getUint32(0) === MAGIC ? view.getUint32(4) : null;
}
