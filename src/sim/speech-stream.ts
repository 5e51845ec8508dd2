// Speech as it is made: a token's share of the sound with each token, as bytes or as OpenAI's events. Called by audio.ts;
// the sound itself is whole before the first token, the engine decides when its parts leave.
import { submitWorks, type Work } from "./engine-work.ts";
import type { Sender } from "./generate.ts";
import type { Exchange, Simulation } from "./routes.ts";

/** The part of `sound` for the steps `from` up to `to` of `steps`; samples of two bytes stay whole. */
function partOf(sound: Uint8Array, steps: number, from: number, to: number): Uint8Array {
  const at = (step: number): number =>
    step >= steps ? sound.length : 2 * Math.floor((sound.length * step) / steps / 2);
  return sound.subarray(at(from), at(to));
}

/** The sound, as the engine gets on with `work` and the client reads. Throws as submitWorks. */
export function soundStream(
  sound: Uint8Array,
  work: Work,
  salt: string,
  simulation: Simulation,
  exchange: Exchange,
): ReadableStream<Uint8Array> {
  let made = 0;
  let sent = 0;
  let controller: ReadableStreamDefaultController<Uint8Array> | null = null;
  const flush = (): void => {
    const part = partOf(sound, work.steps, sent, made);
    sent = made;
    if (part.length > 0) controller?.enqueue(part);
    if (made < work.steps) return;
    controller?.close();
    controller = null;
    end();
  };
  const onStep = (_: Work, step: number): void => {
    made = step;
    if ((controller?.desiredSize ?? 0) > 0) flush();
  };
  const giveUp = (): void => {
    controller?.error(); // the socket is reset: an early end would look whole
    leave();
  };
  const run = submitWorks([work], salt, simulation, onStep, giveUp);
  const end = exchange.holdOpen();
  const leave = (): void => {
    controller = null;
    run.abort();
    end();
  };
  if (exchange.signal.aborted) leave();
  exchange.signal.addEventListener("abort", leave, { once: true });
  return new ReadableStream<Uint8Array>({
    start(given) {
      controller = given;
    },
    pull: () => (made > sent ? flush() : undefined),
    cancel: leave,
  });
}

/** For one plan of `steps` tokens. */
export function speechSender(sound: Uint8Array, steps: number, promptTokens: number, fingerprint: string): Sender {
  return {
    cached() {},
    events(_, from, to) {
      const part = partOf(sound, steps, from, to);
      const audio = Buffer.from(part.buffer, part.byteOffset, part.byteLength).toString("base64");
      return part.length > 0 ? [JSON.stringify({ type: "speech.audio.delta", audio })] : [];
    },
    lastEvents() {
      const usage = { input_tokens: promptTokens, output_tokens: steps, total_tokens: promptTokens + steps };
      return [JSON.stringify({ type: "speech.audio.done", usage, system_fingerprint: fingerprint })];
    },
    whole: () => null, // speech that is no stream of events is answered without a sender
    sentinel: false,
  };
}
