// An object store that counts what goes in and out: the same contract around any adapter (the conformance suite runs on
// it too). Composition roots put it around the store that they opened.
import { asAppError } from "../errors.ts";
import type { Counter, Metrics } from "../metrics/metrics.ts";
import type { Blobs } from "./blobs.ts";

export function measuredBlobs(blobs: Blobs, metrics: Metrics): Blobs {
  const bytes = metrics.counter({
    name: "millrace_blob_bytes_total",
    help: "Bytes of objects that this process has written to the store and read from it.",
    labels: ["direction"],
  });
  const [written, read] = [bytes.of("written"), bytes.of("read")];
  const operations = metrics.counter({
    name: "millrace_blob_operations_total",
    help: "Calls of the object store by outcome: ok, missing (no such object) or error.",
    labels: ["operation", "outcome"],
  });
  const counted = async <T>(operation: string, work: Promise<T>): Promise<T> => {
    try {
      const result = await work;
      operations.of(operation, "ok").add();
      return result;
    } catch (error) {
      const missing = asAppError(error)?.code === "blob_not_found";
      operations.of(operation, missing ? "missing" : "error").add();
      throw error;
    }
  };
  return {
    async put(key, content, options) {
      const stat = await counted("put", blobs.put(key, content, options));
      written.add(stat.sizeBytes);
      return stat;
    },
    get: async (key, range) => countedStream(await counted("get", blobs.get(key, range)), read),
    async read(key, sizeBytesMax) {
      const found = await counted("read", blobs.read(key, sizeBytesMax));
      read.add(found.byteLength);
      return found;
    },
    stat: (key) => counted("stat", blobs.stat(key)),
    delete: (key) => counted("delete", blobs.delete(key)),
    list: (prefix) => blobs.list(prefix), // no object's bytes, and the sweep alone asks
    ready: () => blobs.ready(),
  };
}

/** The same bytes, pulled as they are read. */
function countedStream(stream: ReadableStream<Uint8Array>, bytes: Counter): ReadableStream<Uint8Array> {
  const reader = stream.getReader();
  return new ReadableStream(
    {
      async pull(controller) {
        const { done, value } = await reader.read();
        if (done) return controller.close();
        bytes.add(value.byteLength);
        controller.enqueue(value);
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}
