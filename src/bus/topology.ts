// Makes the broker hold the streams and buckets of nats/streams.yaml: creates, updates what may be updated, refuses what
// would lose data. Called by the supervisor, or by a gateway or actor that runs alone; safe to run many times at once.
import { readFile } from "node:fs/promises";
import { jetstreamManager, type StreamConfig, type StreamInfo } from "@nats-io/jetstream";
import { parse } from "yaml";
import { AppError, messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import type { Bus } from "./connection.ts";
import { streams } from "./subjects.ts";

export interface TopologyOptions {
  /** Null: what the broker holds already, else the default for `durability`. */
  readonly partitions: number | null;
  readonly durability: "fsync" | "fast";
  readonly taskTtlMs: number;
}

export interface Topology {
  readonly partitions: number;
}

/**
 * Partitions where nobody chose. Durable: each stream fsyncs for itself, so more of them go on at once; fast: one,
 * because every partition costs pulls. Measured in docs/benchmarks.md.
 */
const DEFAULT_PARTITIONS = { fsync: 8, fast: 1 } as const;

interface StreamEntry {
  readonly name: string;
  readonly total_bytes: string;
  readonly max_age: string | number;
  readonly [field: string]: unknown;
}

interface TopologyFile {
  readonly streams: readonly StreamEntry[];
  readonly buckets: readonly { readonly name: string; readonly max_bytes: string; readonly ttl?: string }[];
}

type Manager = Awaited<ReturnType<typeof jetstreamManager>>;
/** In the metadata of a partition's streams: how many partitions there are. */
const PARTITIONS_KEY = "millrace.partitions";

type Wanted = Partial<StreamConfig> & { readonly name: string; readonly subjects: string[] };

/** Throws `topology_conflict` with what to do, `broker_unavailable`. */
export async function ensureTopology(bus: Bus, options: TopologyOptions, log: Log): Promise<Topology> {
  const file = parse(await readFile(new URL("../../nats/streams.yaml", import.meta.url), "utf8")) as TopologyFile;
  const manager = await jetstreamManager(bus.connection, { timeout: 10_000 });
  const existing = new Map<string, StreamInfo>();
  for await (const info of manager.streams.list()) existing.set(info.config.name, info);

  const partitions = await agreePartitions(manager, existing, file, options);
  const wanted = [...streamConfigs(file, partitions, options), ...bucketConfigs(file)];
  // One at a time on the broker's side anyway; all at once from ours saves the round trips.
  await Promise.all(
    wanted.map(async (config) => {
      const info = existing.get(config.name);
      if (!info) {
        await create(manager, config);
        log.debug({ stream: config.name }, "stream created");
        return;
      }
      const change = difference(info, config);
      if (change === null) return;
      const metadata = { ...info.config.metadata, ...config.metadata };
      await manager.streams.update(config.name, { ...info.config, ...config, metadata });
      log.info({ stream: config.name, fields: change }, "stream updated");
    }),
  );
  return { partitions };
}

/**
 * The number of partitions that everybody uses: what the broker holds, else what this process makes. The first stream
 * says it, so that a process which starts at the same time never counts streams that are still being made.
 */
async function agreePartitions(
  manager: Manager,
  existing: Map<string, StreamInfo>,
  file: TopologyFile,
  options: TopologyOptions,
): Promise<number> {
  const first = streams.jobs(0);
  if (!existing.has(first)) {
    const wanted = options.partitions ?? DEFAULT_PARTITIONS[options.durability];
    const config = streamConfigs(file, wanted, options).find(({ name }) => name === first);
    if (config) await create(manager, config);
    existing.set(first, await manager.streams.info(first)); // another process may have been first
  }
  const count = [...existing.keys()].filter((name) => /^JOBS_\d+$/.test(name)).length;
  const stored = Number(existing.get(first)?.config.metadata?.[PARTITIONS_KEY] ?? count);
  if (options.partitions !== null && options.partitions !== stored) {
    throw new AppError(
      "topology_conflict",
      `PARTITIONS is ${options.partitions}, but the broker holds tasks in ${stored}: a task's partition follows from ` +
        `its id, so they would no longer be found. Unset PARTITIONS or set it to ${stored}, or start on an empty DATA_DIR`,
    );
  }
  return stored;
}

async function create(manager: Manager, config: Wanted): Promise<void> {
  try {
    await manager.streams.add(config);
  } catch (error) {
    const text = messageOf(error);
    if (/already in use/.test(text)) return; // another process was first, with the same file
    if (/insufficient storage|resources/i.test(text)) {
      throw new AppError(
        "topology_conflict",
        `the broker has no room for stream ${config.name} (${config.max_bytes} bytes): free disk space or raise max_file_store`,
        { cause: error },
      );
    }
    throw new AppError("broker_unavailable", `cannot create stream ${config.name}: ${text}`, { cause: error });
  }
}

/** The fields of `info` that `wanted` changes, null for none. Throws where the change would lose data or is not allowed. */
export function difference(info: Pick<StreamInfo, "config" | "state">, wanted: Wanted): string[] | null {
  const current = info.config as unknown as Record<string, unknown>;
  const changed = Object.entries(wanted)
    .filter(([field, value]) => {
      // The broker adds entries of its own to the metadata.
      if (field === "metadata") return !holdsAll(info.config.metadata ?? {}, wanted.metadata ?? {});
      return JSON.stringify(current[field] ?? fallbackOf(field)) !== JSON.stringify(value);
    })
    .map(([field]) => field);
  if (changed.length === 0) return null;
  const refuse = (why: string): never => {
    throw new AppError("topology_conflict", `stream ${wanted.name} cannot be changed: ${why}`);
  };
  for (const field of ["storage", "retention", "persist_mode"]) {
    if (changed.includes(field)) refuse(`its ${field} is fixed at creation; start on an empty DATA_DIR`);
  }
  if (wanted.discard === "new" && typeof wanted.max_bytes === "number" && info.state.bytes > wanted.max_bytes) {
    refuse(
      `it holds ${info.state.bytes} bytes, more than the ${wanted.max_bytes} that it may; records would be dropped`,
    );
  }
  const lost = info.config.subjects.filter((subject) => !wanted.subjects.includes(subject));
  if (lost.length > 0 && info.state.messages > 0) refuse(`it holds records under ${lost.join(", ")}`);
  return changed;
}

const holdsAll = (map: Readonly<Record<string, string>>, part: Readonly<Record<string, string>>): boolean =>
  Object.entries(part).every(([key, value]) => map[key] === value);

/** What the broker leaves out of a stream's configuration when it has the default. */
function fallbackOf(field: string): unknown {
  return ({ max_age: 0, allow_direct: false, max_msgs: -1 } as Record<string, unknown>)[field];
}

function streamConfigs(file: TopologyFile, partitions: number, options: TopologyOptions): Wanted[] {
  return file.streams.flatMap(({ total_bytes, max_age, ...entry }) => {
    const perPartition = entry.name.includes("{p}");
    const count = perPartition ? partitions : 1;
    return Array.from({ length: count }, (_, p) => {
      const named = JSON.parse(JSON.stringify(entry).replaceAll("{p}", String(p))) as Wanted;
      const maxAge = typeof max_age === "number" ? max_age : ageNanos(max_age, options.taskTtlMs);
      return {
        ...named,
        num_replicas: 1,
        max_bytes: Math.floor(bytes(total_bytes) / count),
        max_age: maxAge,
        ...(perPartition && { metadata: { [PARTITIONS_KEY]: String(partitions) } }),
        // Not used, and the broker refuses one that is longer than the age.
        duplicate_window: Math.min(DUPLICATE_WINDOW_NANOS, maxAge || DUPLICATE_WINDOW_NANOS),
      };
    });
  });
}

function bucketConfigs(file: TopologyFile): Wanted[] {
  return file.buckets.map(
    (bucket) =>
      ({
        name: `KV_${bucket.name}`,
        subjects: [`$KV.${bucket.name}.>`],
        storage: "file",
        retention: "limits",
        discard: "new",
        persist_mode: "async", // every put would be an fsync otherwise, and both can be told anew
        num_replicas: 1,
        max_msgs_per_subject: 1,
        max_bytes: bytes(bucket.max_bytes),
        max_age: bucket.ttl ? ageNanos(bucket.ttl, 0) : 0,
        allow_rollup_hdrs: true,
        deny_delete: true,
        allow_direct: true,
      }) as Wanted,
  );
}

function bytes(text: string): number {
  const match = /^(\d+)(KiB|MiB|GiB)$/.exec(text);
  const unit = { KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 }[match?.[2] ?? ""];
  if (!match || !unit) throw new AppError("invalid_config", `nats/streams.yaml: ${text} is no size such as 2GiB`);
  return Number(match[1]) * unit;
}

/** The broker's default. */
const DUPLICATE_WINDOW_NANOS = 120_000_000_000;

/** `2h`, `10s`, `{task_ttl}+1h` or the less of two, `min(2h,{task_ttl})`, in nanoseconds. */
function ageNanos(text: string, taskTtlMs: number): number {
  const least = /^min\(([^,]+), *([^,]+)\)$/.exec(text);
  if (least) return Math.min(...least.slice(1).map((part) => ageNanos(part, taskTtlMs)));
  const sum = text.split("+").reduce((ms, part) => {
    if (part === "{task_ttl}") return ms + taskTtlMs;
    const match = /^(\d+)(s|m|h)$/.exec(part);
    const unit = { s: 1_000, m: 60_000, h: 3_600_000 }[match?.[2] ?? ""];
    if (!match || !unit) throw new AppError("invalid_config", `nats/streams.yaml: ${text} is no age such as 2h`);
    return ms + Number(match[1]) * unit;
  }, 0);
  return sum * 1_000_000;
}

/** How full the fullest partition is, 0 to 1, over both logs; results must find room, so both count. */
export async function fullness(bus: Bus, partitions: number): Promise<number> {
  const manager = await jetstreamManager(bus.connection, { timeout: 5_000 });
  const names = Array.from({ length: partitions }, (_, p) => [streams.jobs(p), streams.results(p)]).flat();
  const shares = await Promise.all(
    names.map(async (name) => {
      const { config, state } = await manager.streams.info(name);
      return config.max_bytes > 0 ? state.bytes / config.max_bytes : 0;
    }),
  );
  return Math.max(...shares);
}

/** Sequence of the newest record of a stream. Throws `broker_unavailable`. */
export async function lastSequence(bus: Bus, stream: string): Promise<number> {
  const reply = await bus.request(`$JS.API.STREAM.INFO.${stream}`, "", { timeoutMs: 5_000 });
  const info = JSON.parse(reply.text()) as { state?: { last_seq: number } };
  if (!info.state) throw new AppError("broker_unavailable", `stream ${stream} is missing`, { retryAfterS: 1 });
  return info.state.last_seq;
}
