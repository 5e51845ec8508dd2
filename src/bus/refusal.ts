// What a refused call of JetStream's API becomes. The broker's own words may name paths of its machine and reach a client
// with the error: they travel as the cause, for logs. Called by the files of this folder that ask on behalf of requests.
import { AppError } from "../errors.ts";

export interface ApiRefusal {
  readonly err_code?: number;
  readonly description?: string;
}

/** `broker_unavailable`, with the broker's number for the reason. `what` is shown to clients. */
export const refusal = (what: string, { err_code: code = 0, description }: ApiRefusal): AppError =>
  new AppError("broker_unavailable", `the broker refused ${what} (${code})`, {
    cause: new Error(description ?? "no reason given"),
    retryAfterS: 1,
  });
