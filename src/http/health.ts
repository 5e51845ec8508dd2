// Whether this process lives, and whether it can work. Asked by supervisors and load balancers, without a key, so the
// details name parts and nothing of the machine.
import { operations } from "./operations.ts";
import { problemBody } from "./problem.ts";
import { type PublicRoute, reply, replyJson } from "./route.ts";

export interface PartReadiness {
  readonly part: string;
  readonly ready: boolean;
  /** What is wrong, fit for strangers. */
  readonly detail?: string;
}

export function healthRoutes(readiness: () => readonly PartReadiness[]): readonly PublicRoute[] {
  return [
    {
      access: "public",
      method: "GET",
      path: "/health/live",
      operation: operations.live,
      handle: (call) => replyJson(call, 200, '{"status":"live"}'),
    },
    {
      access: "public",
      method: "GET",
      path: "/health/ready",
      operation: operations.ready,
      handle(call) {
        const parts = readiness();
        const missing = parts.filter((part) => !part.ready);
        if (missing.length === 0) return replyJson(call, 200, JSON.stringify({ status: "ready", parts }));
        const detail = missing.map((part) => (part.detail ? `${part.part}: ${part.detail}` : part.part)).join("; ");
        const body = { ...problemBody("not_ready", `Not ready: ${detail}.`, call.requestId), parts };
        return reply(call, 503, "application/problem+json", JSON.stringify(body), { "retry-after": "1" });
      },
    },
  ];
}
