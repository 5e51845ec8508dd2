// The fingerprint of a request, for idempotency: equal for bodies that mean the same, whatever the order of their keys.
import type { TaskRequest } from "./tasks.ts";

/** Lower-case hexadecimal SHA-256 of the request in canonical JSON, without its client_request_id. */
export function requestHash(request: TaskRequest): string {
  const { client_request_id: _, ...rest } = request;
  const canonical = canonicalJson({ ...rest, priority: rest.priority ?? "normal", metadata: rest.metadata ?? {} });
  return Bun.CryptoHasher.hash("sha256", canonical, "hex");
}

/** JSON with the keys of every object in code unit order (RFC 8785 for the values that JSON.parse makes). */
export function canonicalJson(value: unknown): string {
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  let members = "";
  for (const key of Object.keys(value).sort()) {
    const member: unknown = (value as Record<string, unknown>)[key];
    if (member === undefined) continue;
    members += `${members === "" ? "" : ","}${JSON.stringify(key)}:${canonicalJson(member)}`;
  }
  return `{${members}}`;
}
