// Model servers for tests where the simulator is too well-behaved: whatever a test wants them to answer.

const encoder = new TextEncoder();
export const event = (content: string): Uint8Array =>
  encoder.encode(`data: ${JSON.stringify({ choices: [{ index: 0, delta: { content }, finish_reason: null }] })}\n\n`);
/** The end of an answer, as it should be. */
export const ending = encoder.encode(
  `data: ${JSON.stringify({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] })}\n\ndata: [DONE]\n\n`,
);

export interface ModelServers {
  /** Starts a model server that answers with `answer`; its base URL. */
  serve(answer: (request: Request) => Response | Promise<Response>): string;
  /** Stops all of them. */
  stop(): Promise<void>;
}

export function modelServers(): ModelServers {
  const servers: Bun.Server<undefined>[] = [];
  return {
    serve(answer) {
      const server = Bun.serve({ hostname: "127.0.0.1", port: 0, idleTimeout: 0, fetch: answer });
      servers.push(server);
      return `${server.url.href}v1`;
    },
    async stop() {
      for (const server of servers.splice(0)) await server.stop(true);
    },
  };
}

/** A body that is pulled. */
interface Source {
  start?(controller: ReadableStreamDefaultController<Uint8Array>): void | Promise<void>;
  pull?(controller: ReadableStreamDefaultController<Uint8Array>): void | Promise<void>;
}

export const streamOf = (source: Source): Response =>
  new Response(new ReadableStream(source, { highWaterMark: 0 }), { headers: { "content-type": "text/event-stream" } });

/** One event, and then silence until the client leaves. */
export const begun = (): Response =>
  streamOf({
    async pull(controller) {
      controller.enqueue(event("one"));
      await new Promise(() => {});
    },
  });
