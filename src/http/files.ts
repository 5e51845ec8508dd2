// The routes of files, in the shape of the OpenAI API, so that its SDKs upload, list, fetch and delete unchanged. Bytes
// are streamed both ways; what a file may be used for is decided by who uses it.
import type { Blobs } from "../blobs/blobs.ts";
import { isFileId, userFileKey } from "../blobs/user-file.ts";
import { AppError, invalidField } from "../errors.ts";
import { FILE_BYTES_MAX, type FileDetails, type Files, type StoredFile } from "../files/files.ts";
import type { FilePage } from "../files/store.ts";
import { fileOperations } from "./file-operations.ts";
import { filePurposes } from "./file-schemas.ts";
import { type FormDetails, receiveUpload } from "./multipart.ts";
import { pointerTo, queryOf } from "./query.ts";
import { type KeyedCall, type KeyedRoute, replyJson } from "./route.ts";
import { sendBlob } from "./send-blob.ts";

/** Each holds a chunk of the body and, with S3, up to 8 MiB of the part that is being sent. */
const UPLOADS_MAX = 16;
/** An upload may take an hour: one key must not hold all places. */
const UPLOADS_PER_KEY_MAX = 8;
const FILENAME_BYTES_MAX = 255;
const LIST_DEFAULT = 20;
/** What the SDKs may ask for; a page has at most `PAGE_MAX`, and `has_more` tells of the rest. */
const LIMIT_MAX = 10_000;
const PAGE_MAX = 1_000;
const EXPIRY_S_MIN = 3_600;
const EXPIRY_S_MAX = 2_592_000;

export function fileRoutes(files: Files, blobs: Blobs): readonly KeyedRoute[] {
  const file = { access: "key", path: "/v1/files/{id}", errorFormat: "openai" } as const;
  const all = { access: "key", path: "/v1/files", errorFormat: "openai" } as const;
  return [
    { ...all, method: "POST", operation: fileOperations.uploadFile, handle: createUpload(files) },
    {
      ...all,
      method: "GET",
      operation: fileOperations.listFiles,
      async handle(call) {
        const page = pageOf(call.request);
        const found = await files.list(call.owner, { ...page, limit: page.limit + 1 });
        const data = found.slice(0, page.limit).map(publicFile);
        const ends = { first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null };
        return replyJson(
          call,
          200,
          JSON.stringify({ object: "list", data, ...ends, has_more: found.length > data.length }),
        );
      },
    },
    {
      ...file,
      method: "GET",
      operation: fileOperations.getFile,
      handle: async (call) => replyJson(call, 200, JSON.stringify(publicFile(await files.get(call.owner, call.id)))),
    },
    {
      ...file,
      method: "DELETE",
      operation: fileOperations.deleteFile,
      async handle(call) {
        await files.remove(call.owner, call.id);
        return replyJson(call, 200, JSON.stringify({ id: call.id, object: "file", deleted: true }));
      },
    },
    {
      ...file,
      path: "/v1/files/{id}/content",
      method: "GET",
      operation: fileOperations.getFileContent,
      async handle(call) {
        const found = await files.get(call.owner, call.id);
        const key = userFileKey(call.owner.keyId, found.id);
        return sendBlob(call, { ...found, key }, found.filename, blobs);
      },
    },
  ];
}

/** The handler of `POST /v1/files`. */
function createUpload(files: Files): (call: KeyedCall) => Promise<Response> {
  const running: string[] = []; // ids of keys, one for each upload
  return async (call) => {
    const { keyId } = call.owner;
    const own = running.filter((holder) => holder === keyId).length;
    if (running.length >= UPLOADS_MAX || own >= UPLOADS_PER_KEY_MAX) {
      const which = own >= UPLOADS_PER_KEY_MAX ? `${own} uploads of this key` : `${UPLOADS_MAX} uploads`;
      throw new AppError("too_many_uploads", `${which} are under way here.`, { retryAfterS: 5 });
    }
    running.push(keyId);
    try {
      const upload = await receiveUpload(
        call.request,
        FILE_BYTES_MAX,
        ({ content, contentType }) => files.receive(call.owner, content, contentType),
        detailsOf,
        (received) => files.discard(call.owner, received),
      );
      const kept = await files.keep(call.owner, upload.taken, upload.details).catch(async (error: unknown) => {
        await files.discard(call.owner, upload.taken);
        throw error;
      });
      return replyJson(call, 200, JSON.stringify(publicFile(kept)));
    } finally {
      running.splice(running.indexOf(keyId), 1);
    }
  };
}

/** What the form says of the file. Throws `invalid_request`. */
function detailsOf({ fields, filename }: FormDetails): FileDetails {
  const known = ["purpose", "expires_after[anchor]", "expires_after[seconds]"];
  const unknown = [...fields.keys()].find((name) => !known.includes(name));
  if (unknown !== undefined) throw invalidField(`/${unknown.slice(0, 64)}`, "is not a known field");
  const purpose = fields.get("purpose") ?? "";
  if (!filePurposes.some((name) => name === purpose))
    throw invalidField("/purpose", `must be one of ${filePurposes.join(", ")}`);
  const name = filename.toWellFormed().trim();
  if (name === "" || /[\p{Cc}/\\]/u.test(name) || Buffer.byteLength(name) > FILENAME_BYTES_MAX) {
    throw invalidField("/file", `needs a filename of 1 to ${FILENAME_BYTES_MAX} bytes without control characters`);
  }
  return { filename: name, purpose, expiresInMs: expiryOf(fields) };
}

function expiryOf(fields: ReadonlyMap<string, string>): number | null {
  const anchor = fields.get("expires_after[anchor]");
  const seconds = fields.get("expires_after[seconds]");
  if (anchor === undefined && seconds === undefined) return null;
  if (anchor !== "created_at") throw invalidField("/expires_after[anchor]", "must be created_at");
  if (!/^\d{4,7}$/.test(seconds ?? "") || Number(seconds) < EXPIRY_S_MIN || Number(seconds) > EXPIRY_S_MAX) {
    throw invalidField("/expires_after[seconds]", `must be a whole number from ${EXPIRY_S_MIN} to ${EXPIRY_S_MAX}`);
  }
  return Number(seconds) * 1_000;
}

function pageOf(request: Request): FilePage {
  const query = queryOf(request) ?? new URLSearchParams();
  for (const name of query.keys()) {
    if (!["after", "limit", "order", "purpose"].includes(name))
      throw invalidField(pointerTo(name), "is not a known parameter");
  }
  const order = query.get("order") ?? "desc";
  if (order !== "asc" && order !== "desc") throw invalidField("/order", "must be asc or desc");
  const limit = query.get("limit") ?? String(LIST_DEFAULT);
  if (!/^\d{1,5}$/.test(limit) || Number(limit) < 1 || Number(limit) > LIMIT_MAX) {
    throw invalidField("/limit", `must be a whole number from 1 to ${LIMIT_MAX}`);
  }
  const after = query.get("after");
  const purpose = query.get("purpose");
  if (after !== null && !isFileId(after)) throw invalidField("/after", "must be the id of a file");
  if (purpose !== null && !filePurposes.some((name) => name === purpose))
    throw invalidField("/purpose", `must be one of ${filePurposes.join(", ")}`);
  return { after, purpose, order, limit: Math.min(Number(limit), PAGE_MAX) };
}

const publicFile = (file: StoredFile) => ({
  id: file.id,
  object: "file" as const,
  bytes: file.sizeBytes,
  created_at: Math.floor(file.createdMs / 1_000),
  expires_at: Math.floor(file.expiresMs / 1_000),
  filename: file.filename,
  purpose: file.purpose,
  status: "processed" as const,
});
