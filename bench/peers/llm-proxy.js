// The ceiling for a gateway of models: Bun passes the request and the answer's bytes through, and looks at neither.
const target = process.env.TARGET;

Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.env.PORT),
  idleTimeout: 0,
  async fetch(request) {
    const { pathname } = new URL(request.url);
    const answer = await fetch(`${target}${pathname}`, {
      method: request.method,
      headers: { "content-type": request.headers.get("content-type") ?? "" },
      body: request.body,
      signal: request.signal,
    });
    return new Response(answer.body, { status: answer.status, headers: { "content-type": "text/event-stream" } });
  },
});
