// Asks the actors who holds a task, and tells them of a cancel: one request on millrace.control.<task_id>, an answer
// from each actor ("held" or "free"). Core NATS: an actor that is stuck or cut off gives no answer, which is not a "free".
import type { Bus } from "../bus/connection.ts";
import { subjects } from "../bus/subjects.ts";

export interface ControlRequest {
  /** Sequence of the cancel marker; null only asks. */
  readonly cancel: number | null;
  /** Id of the actor that asks, which does not answer. */
  readonly from: string;
}

export interface ControlAnswers {
  readonly held: number;
  readonly free: number;
}

/** Actors answer from their read loop; who has not by then is stuck. */
const ANSWER_MS = 250;

/** Collects answers until one holds it, `expected` have answered, or time is up. */
export function control(bus: Bus, taskId: string, request: ControlRequest, expected: number): Promise<ControlAnswers> {
  return new Promise((resolve) => {
    let held = 0;
    let free = 0;
    const inbox = bus.inbox();
    const finish = (): void => {
      clearTimeout(timer);
      subscription.unsubscribe();
      resolve({ held, free });
    };
    const timer = setTimeout(finish, ANSWER_MS);
    const subscription = bus.subscribe(inbox, (message) => {
      const text = message.text();
      if (text === "held") held++;
      else if (text === "free") free++;
      else return finish(); // nobody listens (503)
      if (held > 0 || free >= expected) finish();
    });
    bus.publish(subjects.control(taskId), JSON.stringify(request), inbox);
  });
}

/** How many other actors say that they hold the task. */
export async function askHolders(bus: Bus, taskId: string, from: string): Promise<number> {
  const answers = await control(bus, taskId, { cancel: null, from }, Number.POSITIVE_INFINITY);
  return answers.held;
}
