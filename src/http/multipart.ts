// `multipart/form-data` with one file, streamed: the fields become text, the file becomes a stream whose reader sets the
// pace, and no more of it is in memory than a few chunks. Routes that take uploads call it; it knows nothing of what
// they do with the bytes.
import { Busboy, type BusboyFileStream } from "@fastify/busboy";
import { AppError } from "../errors.ts";

/** The fields that the routes take are few and short. */
const FIELDS_MAX = 16;
const FIELD_BYTES_MAX = 4_096;
const HEADER_PAIRS_MAX = 32;
/** 512 MB in this time is 1.2 Mbit/s. A client that drips bytes holds its place no longer. */
const UPLOAD_MS_MAX = 3_600_000;
/** What a boundary and the headers of the parts add to the file. */
const OVERHEAD_BYTES = 64 * 1024;

export interface IncomingFile {
  /** As the client says, without a path; may be empty. */
  readonly filename: string;
  readonly contentType: string;
  /** Fails with `payload_too_large`, or with `invalid_request` where the body ends early. */
  readonly content: ReadableStream<Uint8Array>;
}

/** What the form says beside the bytes. */
export interface FormDetails {
  readonly fields: ReadonlyMap<string, string>;
  /** The fields in their order, those of one name too. */
  readonly entries: readonly (readonly [name: string, value: string])[];
  readonly filename: string;
  readonly contentType: string;
}

export interface Upload<T, D> {
  /** What `take` made of the file. */
  readonly taken: T;
  /** What `read` made of the rest. */
  readonly details: D;
}

/**
 * Reads the body, hands the part named `file` to `take` and, once all of it has arrived, the rest to `read`: fields may
 * stand before and after the file. Throws what these two throw, `unsupported_media_type`, `payload_too_large`,
 * `request_timeout`, `invalid_request` for a form without a file, with two, or that cannot be read; then `undo` is
 * called with what `take` made, if it did.
 */
export async function receiveUpload<T, D>(
  request: Request,
  fileBytesMax: number,
  take: (file: IncomingFile) => Promise<T>,
  read: (details: FormDetails) => D,
  undo: (taken: T) => Promise<void>,
  timeoutMs = UPLOAD_MS_MAX,
): Promise<Upload<T, D>> {
  const contentType = request.headers.get("content-type") ?? "";
  if (!/^multipart\/form-data *;.*boundary=/i.test(contentType)) {
    throw new AppError("unsupported_media_type", "Send multipart/form-data with a part named file.");
  }
  if (Number(request.headers.get("content-length") ?? 0) > fileBytesMax + OVERHEAD_BYTES) throw tooLarge(fileBytesMax);
  const form = readForm(contentType, fileBytesMax, take);
  try {
    await feed(request.body, form, timeoutMs);
    const { taken, ...rest } = await form.done;
    return { details: read(rest), taken: await taken };
  } catch (error) {
    form.abort(error);
    // What was taken although the rest of the form is not good.
    const taken = await form.taken()?.then(
      (value) => ({ value }),
      () => null, // the failure of `take` is the one that is thrown, or follows from it
    );
    if (taken) await undo(taken.value);
    throw error;
  }
}

interface Form<T> {
  readonly parser: InstanceType<typeof Busboy>;
  /** Rejects as soon as the form or `take` fails; resolves when the last part has been read. */
  readonly done: Promise<FormDetails & { readonly taken: Promise<T> }>;
  taken(): Promise<T> | null;
  abort(error: unknown): void;
}

function readForm<T>(contentType: string, fileBytesMax: number, take: (file: IncomingFile) => Promise<T>): Form<T> {
  const { promise: done, resolve, reject } = Promise.withResolvers<Awaited<Form<T>["done"]>>();
  const entries: (readonly [string, string])[] = [];
  let file: { incoming: IncomingFile; stream: BusboyFileStream; taken: Promise<T> } | null = null;
  const parser = createParser(contentType, fileBytesMax);
  parser.on("file", (name, stream, filename, _encoding, mimeType) => {
    stream.on("error", () => {}); // its reader gets the error; without one nobody waits for it
    if (file !== null || name !== "file") {
      stream.resume();
      reject(invalid(name === "file" ? "the form has two files" : "the file belongs in the part named file"));
      return;
    }
    const incoming = { filename: filename ?? "", contentType: mimeType, content: streamOf(stream, fileBytesMax) };
    file = { incoming, stream, taken: take(incoming) };
    file.taken.catch(reject);
  });
  parser.on("field", (name, value, nameTruncated, valueTruncated) => {
    if (nameTruncated || valueTruncated) reject(invalid(`a field has more than ${FIELD_BYTES_MAX} bytes`));
    entries.push([name, value]);
  });
  parser.on("fieldsLimit", () => reject(invalid(`the form has more than ${FIELDS_MAX} fields`)));
  parser.on("filesLimit", () => reject(invalid("the form has two files")));
  parser.on("error", () => reject(invalid("the form cannot be read")));
  parser.on("finish", () => {
    if (file === null) return reject(invalid("the form has no part named file"));
    const { incoming, taken } = file;
    const { filename, contentType } = incoming;
    resolve({ fields: new Map(entries), entries, filename, contentType, taken });
  });
  return {
    parser,
    done,
    taken: () => file?.taken ?? null,
    abort(error) {
      reject(error);
      file?.stream.destroy(error instanceof Error ? error : new Error("the upload was given up"));
    },
  };
}

/** Throws `invalid_request` for a header that it does not take, such as one with a boundary of 300 characters. */
function createParser(contentType: string, fileBytesMax: number): InstanceType<typeof Busboy> {
  try {
    return new Busboy({
      headers: { "content-type": contentType },
      limits: {
        fileSize: fileBytesMax,
        files: 2,
        fields: FIELDS_MAX,
        fieldSize: FIELD_BYTES_MAX,
        fieldNameSize: 256,
        headerPairs: HEADER_PAIRS_MAX,
      },
    });
  } catch {
    throw invalid("the boundary of the form cannot be used");
  }
}

/** The bytes of the file, taken from the parser when they are asked for. */
function streamOf(file: BusboyFileStream, fileBytesMax: number): ReadableStream<Uint8Array> {
  const chunks = file[Symbol.asyncIterator]();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const next = await chunks.next();
        if (!next.done) controller.enqueue(next.value);
        else if (file.truncated) controller.error(tooLarge(fileBytesMax));
        else controller.close();
      },
      cancel: () => void file.resume(),
    },
    { highWaterMark: 0 },
  );
}

/** Hands the body to the parser at the pace of the file's reader; ends at the first failure of either. */
async function feed<T>(
  body: ReadableStream<Uint8Array> | null,
  { parser, done }: Form<T>,
  timeoutMs: number,
): Promise<void> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const slow = (): void => reject(new AppError("request_timeout", "The upload did not arrive in time."));
  const timer = setTimeout(slow, timeoutMs);
  let failure: { readonly error: unknown } | null = null;
  const note = (error: unknown): void => {
    failure ??= { error };
  };
  done.catch(note);
  late.catch(note);
  const failed = (): { readonly error: unknown } | null => failure;
  try {
    // Leaving the loop by a throw cancels the body.
    for await (const chunk of body ?? []) {
      if (!parser.write(chunk)) await Promise.race([drained(parser), done, late]);
      const seen = failed();
      if (seen) throw seen.error;
    }
    parser.end();
    await Promise.race([done, late]);
  } finally {
    clearTimeout(timer);
  }
}

const drained = (parser: InstanceType<typeof Busboy>): Promise<void> =>
  new Promise((resolve) => parser.once("drain", resolve));

const invalid = (message: string): AppError =>
  new AppError("invalid_request", "The form is not valid.", { fields: [{ path: "", message }] });

const tooLarge = (fileBytesMax: number): AppError =>
  new AppError("payload_too_large", `A file may have at most ${fileBytesMax / 1_000_000} MB.`);
