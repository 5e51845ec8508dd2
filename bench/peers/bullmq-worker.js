// BullMQ peer, the worker side: echoes the input, after `sleep_ms` where it is given, and writes the result to a file.
import { mkdirSync, writeFileSync } from "node:fs";
import { Worker } from "bullmq";
import { connection } from "./bullmq-connection.js";

const folder = `${process.env.DATA_DIR}/results`;
mkdirSync(folder, { recursive: true });

new Worker(
  "gpu",
  async (job) => {
    const { model, input } = job.data;
    if (input.sleep_ms) await Bun.sleep(input.sleep_ms);
    const result = { task_id: job.id, model, echo: input };
    writeFileSync(`${folder}/${job.id}.json`, JSON.stringify(result));
    return result;
  },
  { connection: connection(), concurrency: Number(process.env.CONCURRENCY) },
);
