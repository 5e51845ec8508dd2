// What can be measured: each target is a system with the same HTTP surface, and a plan of boots with the phases that
// run on each. The list says how every system is configured; how it is started stands in stack.ts and peers.ts.
import type { Children } from "./children.ts";
import type { PhaseName } from "./load-options.ts";
import { type PeerOptions, startBare, startBullmq, startCelery } from "./peers.ts";
import type { Running } from "./running.ts";
import { startStack } from "./stack.ts";

export interface Boot {
  readonly phases: readonly PhaseName[];
  readonly start: (folder: string, children: Children) => Promise<Running>;
}

export interface Target {
  readonly name: string;
  readonly summary: string;
  readonly boots: readonly Boot[];
}

const throughput: readonly PhaseName[] = ["low", "tight", "closed", "burst"];

/** `settings`: environment variables for our own stack, over those below. */
export function targets(settings: Readonly<Record<string, string>>): readonly Target[] {
  return [
    ours("ours-fast", "Millrace, DURABILITY=fast", { DURABILITY: "fast", ...settings }),
    ours("ours", "Millrace as it comes: every task fsynced before it is accepted", settings),
    celery("a", "FastAPI, Celery, RabbitMQ, Redis; no publisher confirm, results in memory", { durable: false }),
    celery("a-durable", "FastAPI, Celery, RabbitMQ, Redis; confirm_publish, Redis appendfsync always", {
      durable: true,
    }),
    bullmq("b", "Elysia on Bun, BullMQ, Redis in memory", { durable: false }),
    bullmq("b-durable", "Elysia on Bun, BullMQ, Redis appendfsync always", { durable: true }),
    {
      name: "c",
      summary: "Elysia on Bun and no queue: the HTTP ceiling",
      boots: [{ phases: throughput, start: startBare }],
    },
  ];
}

function ours(name: string, summary: string, settings: Readonly<Record<string, string>>): Target {
  return {
    name,
    summary,
    boots: [
      { phases: throughput, start: (folder, children) => startStack(folder, children, { model: "echo", settings }) },
      {
        phases: ["priority"],
        start: (folder, children) => startStack(folder, children, { model: "bench-echo", settings }),
      },
    ],
  };
}

// BullMQ was fastest with 8 at once of 4, 8, 32 and 64; the priority phase has four slots for every system.
const bullmq = (name: string, summary: string, options: Omit<PeerOptions, "slots">): Target => ({
  name,
  summary,
  boots: [
    { phases: throughput, start: (folder, children) => startBullmq(folder, children, { ...options, slots: 8 }) },
    { phases: ["priority"], start: (folder, children) => startBullmq(folder, children, { ...options, slots: 4 }) },
  ],
});

const celery = (name: string, summary: string, options: Omit<PeerOptions, "slots">): Target => ({
  name,
  summary,
  boots: [
    { phases: throughput, start: (folder, children) => startCelery(folder, children, { ...options, slots: 4 }) },
    { phases: ["priority"], start: (folder, children) => startCelery(folder, children, { ...options, slots: 4 }) },
  ],
});
