// The bytes under the NATS client, on Bun's own sockets: the client library's Node transport costs a stream, a promise
// and a callback for each write. Frames of one turn of the event loop leave in one write. Plain TCP only; `tls://` URLs
// keep the library's transport. Used by connection.ts and nothing else.
import type { ConnectionOptions, NatsConnection } from "@nats-io/nats-core";
import {
  checkOptions,
  NatsConnectionImpl,
  type Server,
  setTransportFactory,
  type Transport,
} from "@nats-io/nats-core/internal";
import type { Socket } from "bun";

/** Bytes that the broker has not taken; beyond it the connection is given up, as the broker would do to us. */
const UNSENT_BYTES_MAX = 64 * 1024 * 1024;
const LF = 10;

export function connectPlain(options: ConnectionOptions): Promise<NatsConnection> {
  setTransportFactory({ factory: () => new SocketTransport() });
  return NatsConnectionImpl.connect(options);
}

class SocketTransport implements Transport {
  readonly lang = "nats.js";
  readonly version = "3";
  closeError?: Error;
  private socket: Socket | null = null;
  private readonly received: Uint8Array[] = [];
  private wakeReader: (() => void) | null = null;
  private unsent: Uint8Array[] = [];
  private unsentBytes = 0;
  private scheduled = false;
  private blocked = false;
  private done = false;
  private readonly ended = Promise.withResolvers<Error | undefined>();

  get isClosed(): boolean {
    return this.done;
  }

  /** Resolves when the server's INFO has come. */
  async connect(server: Server, options: ConnectionOptions): Promise<void> {
    const first = Promise.withResolvers<void>();
    this.wakeReader = first.resolve;
    const finish = (error?: Error): void => {
      first.reject(error ?? new Error("connection closed"));
      this.finish(error);
    };
    this.socket = await Bun.connect({
      hostname: server.hostname,
      port: server.port,
      socket: {
        binaryType: "uint8array",
        open: (socket) => void socket.setNoDelay(true),
        data: (_, chunk) => {
          this.received.push(chunk);
          this.wakeReader?.();
        },
        drain: () => {
          this.blocked = false;
          this.write();
        },
        error: (_, error) => finish(error),
        close: () => finish(),
      },
    });
    if (this.done) this.socket.end();
    await first.promise;
    const [chunk = new Uint8Array()] = this.received;
    const line = new TextDecoder().decode(chunk.subarray(0, chunk.indexOf(LF)));
    const info = JSON.parse(line.replace(/^INFO\s+/, "")) as { tls_required?: boolean };
    checkOptions(info as Parameters<typeof checkOptions>[0], options);
    if (info.tls_required) throw new Error("the broker wants TLS: use a tls:// URL");
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (;;) {
      for (const chunk of this.received.splice(0)) yield chunk;
      if (this.received.length > 0) continue;
      if (this.done) return;
      await new Promise<void>((resolve) => {
        this.wakeReader = resolve;
      });
    }
  }

  isEncrypted(): boolean {
    return false;
  }

  send(frame: Uint8Array): void {
    if (this.done) return;
    this.unsent.push(frame);
    this.unsentBytes += frame.byteLength;
    if (this.unsentBytes > UNSENT_BYTES_MAX) return this.finish(new Error("the broker does not take what is sent"));
    if (this.scheduled || this.blocked) return;
    this.scheduled = true;
    setImmediate(() => {
      this.scheduled = false;
      this.write();
    });
  }

  private write(): void {
    if (this.done || this.blocked || this.unsent.length === 0 || !this.socket) return;
    const bytes = this.unsent.length === 1 && this.unsent[0] ? this.unsent[0] : Buffer.concat(this.unsent);
    const written = Math.max(0, this.socket.write(bytes));
    this.unsentBytes = bytes.byteLength - written;
    this.blocked = this.unsentBytes > 0;
    this.unsent = this.blocked ? [bytes.subarray(written)] : [];
  }

  private finish(error?: Error): void {
    if (this.done) return;
    this.done = true;
    if (error) this.closeError = error;
    this.socket?.end();
    this.wakeReader?.();
    this.ended.resolve(error);
  }

  async close(error?: Error): Promise<void> {
    this.write();
    this.finish(error);
  }

  disconnect(): void {
    this.write();
    this.finish();
  }

  closed(): Promise<Error | undefined> {
    return this.ended.promise as Promise<Error | undefined>;
  }

  discard(): void {
    this.finish();
  }
}
