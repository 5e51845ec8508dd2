// The two names by which a request is found again in logs: its request id and its W3C trace. Both may come from the
// client and are kept only when they are harmless; the HTTP layer asks once a request.

const REQUEST_ID = /^[A-Za-z0-9_-]{1,128}$/;
const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;

/** The client's `x-request-id` when it is safe to print, else a fresh one. */
export function requestIdOf(request: Request): string {
  const given = request.headers.get("x-request-id");
  return given !== null && REQUEST_ID.test(given) ? given : crypto.randomUUID();
}

/** The client's `traceparent` when it is valid (W3C Trace Context, version 00 form), else the start of a new trace. */
export function traceOf(request: Request): string {
  const given = request.headers.get("traceparent");
  if (given !== null && TRACEPARENT.test(given)) return given;
  const traceId = crypto.randomUUID().replaceAll("-", "");
  // Digits that are free of the fixed bits of a UUID. All zeros, which would be invalid, is one chance in 2^64.
  const parent = crypto.randomUUID();
  return `00-${traceId}-${parent.slice(0, 8)}${parent.slice(28)}-01`;
}
