// The body of a model's answer, for who wants all of it or a web stream of it. Whoever passes tokens on reads it as it is,
// and spares each of them the queue and the promises of a stream between.
import type { AnswerBody } from "./llm.ts";

/** All of it. Throws what its reader throws. */
export async function bytesOf(body: AnswerBody): Promise<Uint8Array<ArrayBuffer>> {
  const reader = body.getReader();
  const pieces: Uint8Array[] = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return Buffer.concat(pieces);
    pieces.push(value);
  }
}

export const textOf = async (body: AnswerBody): Promise<string> => new TextDecoder().decode(await bytesOf(body));

/** For a `Response`; read only as far as its own reader reads. */
export function streamOf(body: AnswerBody): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  return new ReadableStream<Uint8Array>(
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
}
