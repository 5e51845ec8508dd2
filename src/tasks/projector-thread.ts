// The thread of a gateway that keeps its read model: a connection to the broker and one to the database of its own.
// Started by projector.ts, which it tells how far it is; shares no memory with the gateway.
import { openBus } from "../bus/connection.ts";
import { openReadModel } from "../db/db.ts";
import { messageOf } from "../errors.ts";
import { createLog } from "../log.ts";
import type { FromProjector, ThreadOptions, ToProjector } from "./projector.ts";
import { projectInTurns } from "./projector-turns.ts";

declare const self: Worker;

const tell = (message: FromProjector): void => self.postMessage(message);

async function main(options: ThreadOptions): Promise<() => Promise<void>> {
  const log = createLog("projector", options.logLevel);
  const bus = await openBus(options.natsUrl, "millrace projector", log);
  const db = await openReadModel(options);
  const projector = await projectInTurns({ ...options, bus, sql: db.sql, log });
  tell({ type: "following" });
  void projector.caughtUp.then(() => tell({ type: "caught-up" }));
  return async () => {
    await projector.stop();
    await db.close();
    await bus.close();
    tell({ type: "stopped" });
  };
}

const started = Promise.withResolvers<() => Promise<void>>();
self.onmessage = (event: MessageEvent<ToProjector>) => {
  const failed = (error: unknown): void => tell({ type: "failed", message: messageOf(error) });
  if (event.data.type === "start") main(event.data).then(started.resolve, failed);
  else started.promise.then((end) => end()).catch(failed);
};
