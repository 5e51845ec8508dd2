// The thread of a gateway that sends webhooks: a connection to the broker and one to the database of its own. Started
// by sender.ts; shares no memory with the gateway.
import { openBus } from "../bus/connection.ts";
import { systemClock } from "../clock.ts";
import { openKept } from "../db/db.ts";
import { messageOf } from "../errors.ts";
import { createLog } from "../log.ts";
import type { AttemptMade } from "./metrics.ts";
import { type FromSender, type Sender, type SenderThreadOptions, sendHere, type ToSender } from "./sender.ts";

declare const self: Worker;

const tell = (message: FromSender): void => self.postMessage(message);

async function main(options: SenderThreadOptions): Promise<Sender> {
  const log = createLog("webhooks", options.logLevel);
  const bus = await openBus(options.natsUrl, "millrace webhooks", log);
  const db = await openKept(options);
  const onAttempt = (attempt: AttemptMade): void => tell({ type: "attempted", attempt });
  const sender = await sendHere({
    ...options,
    bus,
    sql: db.sql,
    clock: systemClock,
    random: Math.random,
    log,
    onAttempt,
  });
  tell({ type: "started" });
  return {
    wake: sender.wake,
    cleared: sender.cleared,
    async stop() {
      await sender.stop();
      await db.close();
      await bus.close();
      tell({ type: "stopped" });
    },
  };
}

const started = Promise.withResolvers<Sender>();
self.onmessage = ({ data: told }: MessageEvent<ToSender>) => {
  const failed = (error: unknown): void => tell({ type: "failed", message: messageOf(error) });
  if (told.type === "start") main(told).then(started.resolve, failed);
  else if (told.type === "wake") void started.promise.then((sender) => sender.wake());
  else if (told.type === "cleared") void started.promise.then((sender) => sender.cleared(told.ranges));
  else started.promise.then((sender) => sender.stop()).catch(failed);
};
