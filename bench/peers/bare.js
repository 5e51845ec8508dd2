// The HTTP ceiling: Elysia with the same two routes and no queue. Nothing is stored, every task has ended at once.
import { Elysia, t } from "elysia";

const body = t.Object({
  model: t.String(),
  input: t.Any(),
  priority: t.Optional(t.String()),
  client_request_id: t.Optional(t.String()),
});

new Elysia()
  .post(
    "/v1/tasks",
    ({ body, set }) => {
      set.status = 202;
      return { task_id: body.client_request_id ?? crypto.randomUUID(), status: "queued" };
    },
    { body },
  )
  .get("/v1/tasks/:id", ({ params }) => ({
    task_id: params.id,
    status: "succeeded",
    result: { echo: { text: "hi" } },
  }))
  .listen({ hostname: "127.0.0.1", port: Number(process.env.PORT) });
