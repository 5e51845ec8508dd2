// A gateway's answers to actors about usage: it counts what their runners' calls used, and says whether a key has tokens
// left. Started by the gateway's composition root; the gateways share the questions.
import type { Bus, BusMessage } from "../bus/connection.ts";
import { subjects } from "../bus/subjects.ts";
import { asAppError, messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { parseQuestion, type UsageAnswer, type UsageQuestion } from "./messages.ts";
import type { Usage } from "./usage.ts";

export interface UsageServiceOptions {
  readonly bus: Pick<Bus, "subscribe" | "respond">;
  readonly usage: Pick<Usage, "count" | "requireQuota">;
  readonly log: Log;
}

/** Questions under way at once; an actor has one or two. One beyond is not answered, and comes again. */
const UNDER_WAY_MAX = 256;

/** `stop` resolves when the questions under way are answered. */
export function startUsageService({ bus, usage, log }: UsageServiceOptions): { stop(): Promise<void> } {
  const underWay = new Set<Promise<void>>();
  const respond = async (message: BusMessage): Promise<void> => {
    const answer = await answerTo(parseQuestion(message.text()), usage).catch((error): UsageAnswer => {
      log.debug({ error: messageOf(error) }, "an actor's question about usage cannot be answered now");
      return { v: 1, type: "failed" };
    });
    bus.respond(message, JSON.stringify(answer));
  };
  const questions = bus.subscribe(
    subjects.usage,
    (message) => {
      if (underWay.size >= UNDER_WAY_MAX) return;
      const answering = respond(message).finally(() => underWay.delete(answering));
      underWay.add(answering);
    },
    "gateways",
  );
  return {
    async stop() {
      await questions.drain();
      await Promise.all(underWay);
    },
  };
}

async function answerTo(
  question: UsageQuestion | null,
  usage: Pick<Usage, "count" | "requireQuota">,
): Promise<UsageAnswer> {
  if (question === null) return { v: 1, type: "unknown" };
  if (question.type === "count") {
    await usage.count(question.id, question.rows);
    return { v: 1, type: "counted" };
  }
  try {
    await usage.requireQuota(question.keyId);
    return { v: 1, type: "admitted" };
  } catch (error) {
    const refusal = asAppError(error);
    if (refusal?.code !== "insufficient_quota") throw error;
    return { v: 1, type: "refused", message: refusal.message };
  }
}
