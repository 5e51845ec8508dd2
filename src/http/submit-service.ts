// `POST /v1/tasks` for services that are on NATS already: a request on `millrace.submit` becomes one over HTTP, without a
// socket, so that checks, limits and answers are the same by being the same code. Each gateway starts one; it decides
// nothing about a task, and must never have more under way than its limits say.
import packageJson from "../../package.json" with { type: "json" };
import type { Bus, BusMessage } from "../bus/connection.ts";
import { type Service, type ServiceAnswer, startService } from "../bus/service.ts";
import { subjects } from "../bus/subjects.ts";
import type { Clock } from "../clock.ts";
import { AppError } from "../errors.ts";
import type { Log } from "../log.ts";
import { problemReply } from "./problem.ts";

export interface SubmitServiceOptions {
  readonly bus: Bus;
  readonly clock: Clock;
  /** What the gateway's socket does with a request. */
  readonly fetch: (request: Request) => Response | Promise<Response>;
  readonly log: Log;
}

/** Requests under way in one gateway, and their bytes together; beyond either a caller is told to come back. */
const inFlightMax = 1_024;
const inFlightBytesMax = 32 * 1024 * 1024;

/** Headers of a NATS request that mean what they mean over HTTP. Others are not looked at, `Prefer` among them. */
const heard: readonly string[] = ["x-api-key", "authorization", "idempotency-key", "traceparent", "x-request-id"];
/** Headers of an answer that a caller on NATS can use. */
const told: readonly string[] = [
  "content-type",
  "x-request-id",
  "idempotency-replayed",
  "ratelimit",
  "ratelimit-policy",
  "retry-after",
];

export function startSubmitService({ bus, clock, fetch, log }: SubmitServiceOptions): Service {
  let inFlight = 0;
  let inFlightBytes = 0;
  const answer = async (message: BusMessage): Promise<Response> => {
    const sizeBytes = message.data.byteLength;
    if (inFlight >= inFlightMax || inFlightBytes + sizeBytes > inFlightBytesMax) {
      throw new AppError("not_ready", "Too many submissions are under way here.", { retryAfterS: 1 });
    }
    inFlight++;
    inFlightBytes += sizeBytes;
    try {
      return await fetch(requestOf(message));
    } finally {
      inFlight--;
      inFlightBytes -= sizeBytes;
    }
  };
  return startService({
    bus,
    clock,
    name: "millrace",
    version: packageJson.version,
    description: "Runs tasks on GPUs.",
    endpoint: {
      name: "submit",
      subject: subjects.submit,
      metadata: { request: "the body of POST /v1/tasks, and an API key in the header x-api-key" },
      async handle(message) {
        const refuse = (error: unknown): Response =>
          problemReply(error, { request: submission(), requestId: crypto.randomUUID() }, log);
        return answerOf(await answer(message).catch(refuse));
      },
    },
  });
}

const submission = (init?: RequestInit): Request =>
  new Request("http://localhost/v1/tasks", { method: "POST", ...init });

/** Throws `invalid_request` for a header that HTTP could not carry: one that is dropped might have kept a task single. */
function requestOf(message: BusMessage): Request {
  const headers = new Headers({
    "content-type": "application/json",
    "content-length": String(message.data.byteLength),
  });
  for (const [name, values] of message.headers()) {
    if (!heard.includes(name.toLowerCase())) continue;
    for (const value of values) {
      if (!/^[\x20-\x7e]*$/.test(value)) {
        throw new AppError("invalid_request", `The header ${name.toLowerCase()} may hold visible ASCII only.`);
      }
      headers.append(name, value);
    }
  }
  return submission({ headers, body: message.data as Uint8Array<ArrayBuffer> });
}

async function answerOf(response: Response): Promise<ServiceAnswer> {
  const body = await response.text();
  const headers: Record<string, string> = {};
  for (const name of told) {
    const value = response.headers.get(name);
    if (value !== null) headers[name] = value;
  }
  if (response.ok) return { body, headers, error: null };
  const { title } = JSON.parse(body) as { title: string };
  return { body, headers, error: { code: response.status, description: title } };
}
