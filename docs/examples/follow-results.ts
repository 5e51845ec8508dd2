// A service of its own that hears how every task ends, also of those that ended while it was away:
//   NATS_URL=$(cat data/nats/url) bun docs/examples/follow-results.ts
// One durable consumer for each partition keeps its place in the broker. A result comes again when the service dies
// before its ack, so what you do with one must bear a second time: the CloudEvent's `id` is the same.
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";

const { host, username: token } = new URL(process.env.NATS_URL ?? "nats://127.0.0.1:4222");
const connection = await connect({ servers: host, maxReconnectAttempts: -1, ...(token && { token }) });
const manager = await jetstreamManager(connection);

async function follow(stream: string): Promise<void> {
  await manager.consumers.add(stream, { durable_name: "my-service", ack_policy: "explicit" });
  const consumer = await jetstream(connection).consumers.get(stream, "my-service");
  for await (const message of await consumer.consume()) {
    const event = message.json<{ id: string; type: string; data: { model: string } }>();
    if (event.type !== "task.cancelling") console.log(event.id, event.type, event.data.model);
    message.ack();
  }
}

const names = await manager.streams.names().next();
await Promise.all(names.filter((name) => name.startsWith("RESULTS_")).map(follow));
