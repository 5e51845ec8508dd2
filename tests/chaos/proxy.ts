// A TCP proxy that speaks enough of the NATS protocol to lose one chosen answer of the broker: the PubAck of a publish
// that has been stored. The tests put it between a gateway or an actor and the real broker. It never alters a byte.
import { connect as connectTcp, createServer, type Socket } from "node:net";

export interface LostAck {
  /** Resolves when the answer was thrown away: the record is stored, and its publisher does not know. */
  readonly lost: Promise<void>;
}

export interface LossyProxy {
  /** The broker's URL with the proxy's port. */
  readonly url: string;
  /**
   * Throws away the answer to the next publish to a subject that matches. `cut`: the connection goes with it, as when
   * a broker dies; otherwise the publisher only waits.
   */
  loseAck(subject: RegExp, cut: boolean): LostAck;
  /** Cuts the connection of the next publish that matches, as soon as it has passed. Resolves then. */
  cutAfter(subject: RegExp, payload: RegExp): Promise<void>;
  /** Cuts every connection and lets none through until comeBack(). */
  goAway(): Absence;
  close(): Promise<void>;
}

export interface Absence {
  /** Resolves when `count` connections have been refused. */
  refused(count: number): Promise<void>;
  comeBack(): void;
}

interface Trap {
  readonly subject: RegExp;
  readonly cut: boolean;
  /** Where the answer to the chosen publish goes, once that publish has passed. */
  inbox: string | null;
  readonly spring: () => void;
}

/** Resolves when it listens, on a free port of the loopback interface. */
export async function startProxy(brokerUrl: string): Promise<LossyProxy> {
  const target = new URL(brokerUrl);
  const traps = new Set<Trap>();
  const cuts = new Set<{ readonly subject: RegExp; readonly payload: RegExp; readonly spring: () => void }>();
  const sockets = new Set<Socket>();
  let away = false;
  let onRefused = (): void => {};
  const server = createServer((client) => {
    if (away) {
      client.destroy();
      return onRefused();
    }
    const broker = connectTcp(Number(target.port), target.hostname);
    const cut = (): void => {
      client.destroy();
      broker.destroy();
    };
    for (const socket of [client, broker]) {
      socket.setNoDelay(true);
      sockets.add(socket);
      socket.on("error", cut).on("close", () => {
        sockets.delete(socket);
        if (!broker.writableEnded) cut();
      });
    }
    const asked = frames((head, frame) => {
      const [verb, subject = "", reply = ""] = head.split(" ");
      const trap = [...traps].find((one) => one.inbox === null && one.subject.test(subject));
      if (trap && (verb === "HPUB" || verb === "PUB")) trap.inbox = reply;
      const last = [...cuts].find((one) => one.subject.test(subject) && one.payload.test(frame.toString()));
      if (!last) return void broker.write(frame);
      cuts.delete(last);
      broker.end(frame);
      client.destroy();
      last.spring();
    });
    const answered = frames((head, frame) => {
      const [verb, subject] = head.split(" ");
      const trap = (verb === "MSG" || verb === "HMSG") && [...traps].find((one) => one.inbox === subject);
      if (!trap) return void client.write(frame);
      traps.delete(trap);
      if (trap.cut) cut();
      trap.spring();
    });
    client.on("data", asked);
    broker.on("data", answered);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const url = new URL(brokerUrl);
  url.port = String(typeof address === "object" && address ? address.port : 0);

  return {
    url: url.href.replace(/\/$/, ""),
    loseAck(subject, cut) {
      const lost = Promise.withResolvers<void>();
      traps.add({ subject, cut, inbox: null, spring: lost.resolve });
      return { lost: lost.promise };
    },
    cutAfter(subject, payload) {
      return new Promise((resolve) => cuts.add({ subject, payload, spring: resolve }));
    },
    goAway() {
      away = true;
      for (const socket of sockets) socket.destroy();
      return {
        refused(count) {
          const enough = Promise.withResolvers<void>();
          let left = count;
          onRefused = () => {
            if (--left === 0) enough.resolve();
          };
          return enough.promise;
        },
        comeBack() {
          away = false;
        },
      };
    },
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/** Cuts a stream of the NATS client protocol into frames: a head line, and the payload that it announces. */
function frames(onFrame: (head: string, frame: Buffer) => void): (chunk: Buffer) => void {
  let rest: Buffer = Buffer.alloc(0);
  return (chunk) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    for (;;) {
      const end = rest.indexOf("\r\n");
      if (end < 0) return;
      const head = rest.subarray(0, end).toString("latin1");
      const carries = /^(?:PUB|HPUB|MSG|HMSG) .* (\d+)$/i.exec(head)?.[1];
      const length = end + 2 + (carries === undefined ? 0 : Number(carries) + 2);
      if (rest.length < length) return;
      onFrame(head, rest.subarray(0, length));
      rest = rest.subarray(length);
    }
  };
}
