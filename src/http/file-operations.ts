// What OpenAPI says about the routes of files. Data only.
import type { Operation, Parameter } from "./route.ts";

const exampleId = "file-01jd5w3v9m7k2q4x8n6t0r5y1z";
const exampleFile = {
  id: exampleId,
  object: "file",
  bytes: 482_133,
  created_at: 1_795_255_200,
  expires_at: 1_797_847_200,
  filename: "cat.png",
  purpose: "vision",
  status: "processed",
};

const fileId: Parameter = {
  name: "id",
  in: "path",
  description: "Id of the file.",
  schema: { type: "string" },
  example: exampleId,
};

const answer = (description: string, schema: string, example: object) => ({
  "200": {
    description,
    content: { "application/json": { schema: { $ref: `#/components/schemas/${schema}` }, example } },
  },
});

export const fileOperations = {
  uploadFile: {
    id: "uploadFile",
    tag: "Files",
    summary: "Upload a file",
    description:
      "A form with the file and its purpose, streamed to the object store: at most 512 MB. An input names it by " +
      "`file_id`. It is deleted after `expires_after`, or HISTORY_TTL of this installation.",
    body: { schema: "FileUpload", mediaType: "multipart/form-data", example: { file: "(bytes)", purpose: "vision" } },
    answers: answer("The file is kept.", "File", exampleFile),
    errors: [
      "unsupported_media_type",
      "payload_too_large",
      "request_timeout",
      "invalid_request",
      "too_many_files",
      "too_many_uploads",
      "storage_unavailable",
      "database_unavailable",
    ],
  },
  listFiles: {
    id: "listFiles",
    tag: "Files",
    summary: "List the files",
    description: "Those that this key uploaded, newest first.",
    parameters: [
      {
        name: "limit",
        in: "query",
        description: "Files of a page. More than 1,000 are answered in pages of 1,000.",
        schema: { type: "integer", minimum: 1, maximum: 10_000, default: 20 },
        example: 20,
      },
      { name: "after", in: "query", description: "`last_id` of the page before.", schema: { type: "string" } },
      {
        name: "order",
        in: "query",
        description: "By the time of the upload.",
        schema: { type: "string", enum: ["asc", "desc"], default: "desc" },
      },
      { name: "purpose", in: "query", description: "Those of this purpose alone.", schema: { type: "string" } },
    ],
    answers: answer("A page of files.", "FileList", {
      object: "list",
      data: [exampleFile],
      first_id: exampleId,
      last_id: exampleId,
      has_more: false,
    }),
    errors: ["invalid_request", "database_unavailable"],
  },
  getFile: {
    id: "getFile",
    tag: "Files",
    summary: "Describe a file",
    description: "Its name, size, purpose and times.",
    parameters: [fileId],
    answers: answer("The file.", "File", exampleFile),
    errors: ["file_not_found", "database_unavailable"],
  },
  deleteFile: {
    id: "deleteFile",
    tag: "Files",
    summary: "Delete a file",
    description: "The file and its bytes are gone; a task that has not read it yet fails.",
    parameters: [fileId],
    answers: answer("It is gone.", "FileDeleted", { id: exampleId, object: "file", deleted: true }),
    errors: ["file_not_found", "storage_unavailable", "database_unavailable"],
  },
  getFileContent: {
    id: "getFileContent",
    tag: "Files",
    summary: "Fetch a file",
    description: "The bytes as they were uploaded; parts by Range, as with results.",
    parameters: [fileId],
    answers: {
      "200": {
        description: "The bytes.",
        headers: { ETag: "SHA-256 of the file, in hexadecimal.", "Content-Disposition": "Always an attachment." },
        content: { "*/*": { schema: { type: "string", format: "binary" } } },
      },
      "206": {
        description: "The part that was asked for.",
        headers: { "Content-Range": "Which bytes these are, of how many." },
        content: { "*/*": { schema: { type: "string", format: "binary" } } },
      },
      "304": { description: "The client's copy is the present one." },
      "416": { description: "The range begins after the end.", headers: { "Content-Range": "`bytes */size`" } },
    },
    errors: ["file_not_found", "storage_unavailable", "database_unavailable"],
  },
} satisfies Record<string, Operation>;
