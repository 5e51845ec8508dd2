// A service of its own that submits a task over NATS, with an API key:
//   NATS_URL=$(cat data/nats/url) MILLRACE_API_KEY=dev-key bun docs/examples/submit-task.ts echo '{"text":"hello"}'
// The id makes a repeat harmless: the same id with the same task is the same task, so repeat whatever was not answered.
import { connect, headers } from "@nats-io/transport-node";

const [model = "echo", input = '{"text":"hello"}', id = crypto.randomUUID()] = process.argv.slice(2);
const { host, username: token } = new URL(process.env.NATS_URL ?? "nats://127.0.0.1:4222");
const connection = await connect({ servers: host, ...(token && { token }) });

const head = headers();
head.set("x-api-key", process.env.MILLRACE_API_KEY ?? "");
const body = JSON.stringify({ model, input: JSON.parse(input), client_request_id: id });
const answer = await connection.request("millrace.submit", body, { headers: head, timeout: 10_000 });
const refusal = answer.headers?.get("Nats-Service-Error");
if (refusal) {
  const { code, detail } = answer.json<{ code: string; detail: string }>();
  throw new Error(`${refusal} (${code}): ${detail}`);
}
console.log(answer.json<{ task_id: string }>().task_id);
await connection.close();
