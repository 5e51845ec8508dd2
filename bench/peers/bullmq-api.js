// BullMQ peer, the HTTP side: Elysia in front of a queue in Redis. The job id is the client_request_id, so Redis
// deduplicates. Plain JavaScript: its packages live outside this repository (bench/README.md).
import { Job, Queue } from "bullmq";
import { Elysia, t } from "elysia";
import { connection } from "./bullmq-connection.js";

const queue = new Queue("gpu", { connection: connection() });
const PRIORITIES = { high: 1, normal: 2, low: 3 };
const body = t.Object({
  model: t.String(),
  input: t.Any(),
  priority: t.Optional(t.String()),
  client_request_id: t.Optional(t.String()),
});

new Elysia()
  .post(
    "/v1/tasks",
    async ({ body, set }) => {
      const job = await queue.add(
        "run",
        { model: body.model, input: body.input },
        {
          jobId: body.client_request_id ?? crypto.randomUUID(),
          priority: PRIORITIES[body.priority ?? "normal"] ?? 2,
          removeOnComplete: { age: 3600 },
        },
      );
      set.status = 202;
      return { task_id: job.id, status: "queued" };
    },
    { body },
  )
  .get("/v1/tasks/:id", async ({ params, set }) => {
    const job = await Job.fromId(queue, params.id); // one HGETALL
    if (!job) {
      set.status = 404;
      return { error: "not found" };
    }
    const ended = job.failedReason ? "failed" : "succeeded";
    const status = job.finishedOn ? ended : job.processedOn ? "running" : "queued";
    return { task_id: params.id, status, result: job.returnvalue };
  })
  .listen({ hostname: "127.0.0.1", port: Number(process.env.PORT) });
