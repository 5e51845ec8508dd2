// The socket that the simulator listens on, which a fault may close for a while, so that connections are refused as by a
// server that is not there. What is being answered goes on. Made by the server; it knows nothing of requests.
export interface Listener {
  readonly url: string;
  /** Refuses connections for so long; no longer where it refuses them already. */
  refuse(ms: number): void;
  /** Cuts what is still being answered. Idempotent. */
  stop(): Promise<void>;
}

/** Somebody else may have taken the port meanwhile. */
const RETRY_MS = 50;

/** `serve` listens on a port, 0 for any free one; it throws where it cannot. */
export function listen(serve: (port: number) => Bun.Server<undefined>, port: number): Listener {
  let server = serve(port);
  const { hostname } = server;
  const held = server.port ?? port;
  const servers = [server];
  let closed: Timer | null = null;
  let stopped = false;

  const open = (): void => {
    try {
      server = serve(held);
      servers.push(server);
      closed = null;
    } catch {
      closed = setTimeout(open, RETRY_MS);
    }
  };

  return {
    url: `http://${hostname?.includes(":") ? `[${hostname}]` : hostname}:${held}`,
    refuse(ms) {
      if (closed !== null || stopped) return;
      closed = setTimeout(open, ms);
      void server.stop();
    },
    async stop() {
      stopped = true;
      if (closed !== null) clearTimeout(closed);
      await Promise.all(servers.map((one) => one.stop(true)));
    },
  };
}
