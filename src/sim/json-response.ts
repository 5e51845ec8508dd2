// A JSON answer that says how long it is, as vLLM's do: the sizes in /metrics are those of the headers. For every route
// that answers whole.

export function jsonResponse(value: unknown, status = 200): Response {
  const text = JSON.stringify(value);
  const headers = { "content-type": "application/json", "content-length": String(Buffer.byteLength(text)) };
  return new Response(text, { status, headers });
}
