// What the logs really hold, read record by record past every cache: how often each task was asked for, and every end
// that was written for it. The chaos tests count here what the API must not be trusted to say of itself.
import { jetstreamManager } from "@nats-io/jetstream";
import type { Bus } from "../../src/bus/connection.ts";
import { follow } from "../../src/bus/follow.ts";
import { parseJob, parseResult, type ResultToken } from "../../src/bus/subjects.ts";
import { silentLog } from "../../src/log.ts";
import { parseResultRecord } from "../../src/tasks/records.ts";

export interface End {
  readonly token: ResultToken;
  readonly fence: string;
  /** JSON text. */
  readonly data: string;
}

/** How many jobs stand in the logs under each task id. */
export async function jobsOf(bus: Bus): Promise<Map<string, number>> {
  const jobs = new Map<string, number>();
  await readAll(bus, /^JOBS_\d+$/, (subject) => {
    const taskId = parseJob(subject)?.taskId ?? `unknown ${subject}`;
    jobs.set(taskId, (jobs.get(taskId) ?? 0) + 1);
  });
  return jobs;
}

/** Every result record of each task, cancel markers included, in the order of the log. */
export async function endsOf(bus: Bus): Promise<Map<string, End[]>> {
  const ends = new Map<string, End[]>();
  await readAll(bus, /^RESULTS_\d+$/, (subject, text) => {
    const taskId = parseResult(subject)?.taskId ?? `unknown ${subject}`;
    const { token, fence, dataJson } = parseResultRecord(text());
    ends.set(taskId, [...(ends.get(taskId) ?? []), { token, fence, data: dataJson }]);
  });
  return ends;
}

/** The tokens of one task's records, in order: `["success"]`, `["cancelling", "cancelled"]`. */
export const tokensOf = (ends: ReadonlyMap<string, readonly End[]>, taskId: string): readonly ResultToken[] =>
  (ends.get(taskId) ?? []).map((end) => end.token);

async function streamNames(bus: Bus): Promise<string[]> {
  const manager = await jetstreamManager(bus.connection, { timeout: 10_000 });
  const names: string[] = [];
  for await (const info of manager.streams.list()) names.push(info.config.name);
  return names;
}

async function readAll(
  bus: Bus,
  streams: RegExp,
  onRecord: (subject: string, text: () => string) => void,
): Promise<void> {
  const names = (await streamNames(bus)).filter((name) => streams.test(name));
  await Promise.all(
    names.map(async (stream) => {
      const follower = await follow(bus, {
        stream,
        fromSequence: 1,
        log: silentLog,
        onRecord: (record) => onRecord(record.subject, record.text),
      });
      await follower.caughtUp;
      follower.stop();
    }),
  );
}
