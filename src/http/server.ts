// The listening socket: Bun's server around the app's fetch function. http.ts starts and stops it. Elysia's own listen
// is not used: it shares its port with any other process that asks (reusePort), so a second gateway would steal
// requests instead of failing, and it leaves a listener on the process.
import { AppError } from "../errors.ts";

/** Seconds of silence after which a socket is cut, headers and bodies included; requests on hold are exempt. */
const idleTimeoutS = 30;

export interface ServerOptions {
  readonly host: string;
  /** 0 takes any free one. */
  readonly port: number;
  readonly fetch: (request: Request) => Response | Promise<Response>;
}

export interface HttpServer {
  listen(): Promise<{ readonly url: string; readonly port: number }>;
  stop(graceMs: number): Promise<void>;
  /** Switches the idle timeout of this request's socket off, or on again. */
  keepOpen(request: Request, isKept: boolean): void;
  /** The address at the other end of this request's socket; null where it has none. */
  peerOf(request: Request): string | null;
}

export function createServer({ host, port, fetch }: ServerOptions): HttpServer {
  let server: Bun.Server<undefined> | null = null;
  return {
    async listen() {
      server = start(host, port, fetch);
      const bound = server.port ?? port;
      return { url: `http://${host.includes(":") ? `[${host}]` : host}:${bound}`, port: bound };
    },
    async stop(graceMs) {
      const running = server;
      server = null;
      if (running === null) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, graceMs);
      await Promise.race([running.stop(false), promise]);
      clearTimeout(timer);
      await running.stop(true);
    },
    keepOpen(request, isKept) {
      server?.timeout(request, isKept ? 0 : idleTimeoutS);
    },
    peerOf: (request) => server?.requestIP(request)?.address ?? null,
  };
}

function start(host: string, port: number, fetch: ServerOptions["fetch"]): Bun.Server<undefined> {
  try {
    return Bun.serve({
      hostname: host,
      port,
      reusePort: false,
      development: false,
      idleTimeout: idleTimeoutS,
      // body.ts counts and answers in words; Bun's own refusal has no body. What nobody reads stays in the socket.
      maxRequestBodySize: Number.MAX_SAFE_INTEGER,
      fetch: (request) => fetch(request),
    });
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? cause.code : "";
    if (code !== "EADDRINUSE") throw cause;
    const other = Math.min(port + 80, 65_535); // not the next one, which is the simulator's
    throw new AppError(
      "port_taken",
      `Port ${port} on ${host} is taken by another process. Stop that one, or choose another port: PORT=${other}.`,
      { cause },
    );
  }
}
