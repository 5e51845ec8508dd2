// Carries out a fault on one answer: instead of the work, around its headers, or in its body. surface.ts makes one for a
// request; the server calls it. It knows nothing of the engine: what it cuts short it cancels, as a client that leaves
// would do.
import type { FaultSpec } from "./fault.ts";
import { abortedObject, cutSocket, errorObject, faultEvents, type Json, SocketCut, withUsage } from "./fault-events.ts";
import { pause } from "./pause.ts";
import type { Exchange, Fault } from "./routes.ts";
import { errorResponse } from "./wire-error.ts";

export function injectedFault(spec: FaultSpec, { signal, holdOpen }: Pick<Exchange, "signal" | "holdOpen">): Fault {
  return {
    async before() {
      if (spec.delay_ms !== undefined) await pause(spec.delay_ms, signal);
      if (spec.hang && spec.after === undefined) await pause(Number.POSITIVE_INFINITY, signal);
      if (spec.reset || spec.refuse_ms !== undefined || signal.aborted) return new Response(brokenBody());
      if (spec.status === undefined) return null;
      const response = refusal(spec, spec.status);
      if (spec.retry_after !== undefined) response.headers.set("retry-after", String(spec.retry_after));
      return response;
    },
    after: (response) =>
      response.status === 200 && response.body !== null ? broken(response, spec, holdOpen) : response,
  };
}

/** vLLM's error, or the words of a proxy before it. */
function refusal({ message, body, content_type: type = "text/html" }: FaultSpec, status: number): Response {
  if (body !== undefined) return new Response(body, { status, headers: { "content-type": type } });
  return errorResponse(status, message ?? messages[status] ?? `Error ${status}`);
}

/** What is said with a status where the fault has no text. */
const messages: Readonly<Record<number, string>> = {
  400: "The request is not valid.",
  401: "Unauthorized",
  404: "The model does not exist.",
  429: "Too many requests are waiting.",
  500: "CUDA out of memory. Tried to allocate 2.00 GiB.",
  503: "The server is overloaded, please try again later.",
};

async function broken(response: Response, spec: FaultSpec, holdOpen: Exchange["holdOpen"]): Promise<Response> {
  const headers = new Headers(response.headers);
  const isStream = headers.get("content-type")?.startsWith("text/event-stream") === true;
  if (spec.content_type !== undefined) headers.set("content-type", spec.content_type);
  const body = isStream
    ? bodyOf((gone) => faultEvents(response.body as ReadableStream<Uint8Array>, spec, gone), holdOpen())
    : await wholeBody(response, spec, holdOpen);
  return new Response(body, { headers });
}

/** The socket is reset before a byte of the answer. */
const brokenBody = (): ReadableStream<Uint8Array> => new ReadableStream({ start: reset });

/** How the server is made to reset the socket. Without an error: it would print one, which this is not. */
const reset = (controller: ReadableStreamDefaultController<Uint8Array>): void => controller.error();

/**
 * A body of the pieces that `write` yields; where it throws a SocketCut, the socket is reset without a word. `end` is
 * called when all of it is written, and when it is cut.
 */
function bodyOf(write: (gone: AbortSignal) => AsyncGenerator<Uint8Array>, end: () => void): ReadableStream<Uint8Array> {
  const gone = new AbortController();
  const pieces = write(gone.signal);
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { value, done } = await pieces.next();
          if (!done) return controller.enqueue(value);
          end();
          controller.close();
        } catch (error) {
          if (gone.signal.aborted) return;
          end();
          if (error instanceof SocketCut) reset(controller);
          else controller.error(error);
        }
      },
      async cancel() {
        gone.abort();
        end(); // of a client that left the visit has heard before
        await pieces.return(undefined).catch(() => {}); // how it ends is of no interest to a client that has left
      },
    },
    { highWaterMark: 0 },
  );
}

/** An answer that is no stream: its object changed, then its bytes whole, in halves or half of them. */
async function wholeBody(
  response: Response,
  spec: FaultSpec,
  holdOpen: Exchange["holdOpen"],
): Promise<Uint8Array<ArrayBuffer> | ReadableStream> {
  const isJson = response.headers.get("content-type")?.includes("json") === true;
  let bytes = new Uint8Array(await response.arrayBuffer());
  if (isJson) {
    const object = JSON.parse(new TextDecoder().decode(bytes)) as Json;
    bytes = new TextEncoder().encode(JSON.stringify(changedObject(object, spec)));
  }
  if (spec.malformed) bytes = bytes.slice(1);
  if (!spec.cut && !spec.end && !spec.hang && spec.stall_ms === undefined) return bytes;
  return bodyOf(async function* (gone) {
    const half = bytes.length >> 1;
    yield bytes.slice(0, half);
    if (spec.stall_ms !== undefined) await pause(spec.stall_ms, gone);
    if (spec.hang) await pause(Number.POSITIVE_INFINITY, gone);
    if (spec.cut) await cutSocket();
    if (!spec.end) yield bytes.slice(half);
  }, holdOpen());
}

function changedObject(object: Json, spec: FaultSpec): Json {
  if (spec.error) return errorObject(spec);
  const changed = spec.abort ? abortedObject(withUsage(object, spec), false) : withUsage(object, spec);
  return spec.empty_choices && "choices" in changed ? { ...changed, choices: [] } : changed;
}
