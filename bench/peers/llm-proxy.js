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
      body: await request.arrayBuffer(),
      signal: request.signal,
    });
    // Read and handed on: a Response made of the body itself loses its end now and then (Bun 1.4.5).
    const reader = answer.body.getReader();
    const body = new ReadableStream(
      {
        async pull(controller) {
          const { done, value } = await reader.read();
          if (done) controller.close();
          else controller.enqueue(value);
        },
        cancel: () => reader.cancel(),
      },
      { highWaterMark: 0 },
    );
    return new Response(body, { status: answer.status, headers: { "content-type": "text/event-stream" } });
  },
});
