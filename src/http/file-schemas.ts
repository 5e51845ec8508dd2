// The JSON Schemas of files and of OpenAI's errors, for the API's document. Pure data.

/** What the OpenAI API takes as `purpose`. */
export const filePurposes = ["assistants", "batch", "evals", "fine-tune", "user_data", "vision"] as const;

const epochS = (what: string): object => ({ type: "integer", description: `${what}, in seconds since 1970.` });

const fileSchema = {
  type: "object",
  description: "A file as the OpenAI API describes it.",
  required: ["id", "object", "bytes", "created_at", "expires_at", "filename", "purpose", "status"],
  properties: {
    id: { type: "string", description: "`file-` and 26 characters; what an input takes as `file_id`." },
    object: { type: "string", const: "file", description: "Always `file`." },
    bytes: { type: "integer", minimum: 0, description: "Size in bytes." },
    created_at: epochS("When it was uploaded"),
    expires_at: epochS("When it is deleted"),
    filename: { type: "string", description: "The name that the client gave it." },
    purpose: { type: "string", enum: [...filePurposes], description: "What it is for, as the client says." },
    status: { type: "string", const: "processed", description: "Always `processed`." },
  },
};

export const fileSchemas: Readonly<Record<string, object>> = {
  File: fileSchema,
  FileUpload: {
    type: "object",
    description: "A file and what it is for.",
    additionalProperties: false,
    required: ["file", "purpose"],
    properties: {
      file: { type: "string", format: "binary", description: "The bytes, at most 512 MB, with a filename." },
      purpose: { type: "string", enum: [...filePurposes], description: "What it is for." },
      "expires_after[anchor]": { type: "string", const: "created_at", description: "From when the next field counts." },
      "expires_after[seconds]": {
        type: "integer",
        minimum: 3_600,
        maximum: 2_592_000,
        description: "Seconds after which the file is deleted. Default: HISTORY_TTL of this installation.",
      },
    },
  },
  FileList: {
    type: "object",
    description: "A page of files.",
    required: ["object", "data", "first_id", "last_id", "has_more"],
    properties: {
      object: { type: "string", const: "list", description: "Always `list`." },
      data: { type: "array", description: "The files.", items: { $ref: "#/components/schemas/File" } },
      first_id: { type: ["string", "null"], description: "Id of the first one." },
      last_id: { type: ["string", "null"], description: "Id of the last one: `after` of the next page." },
      has_more: { type: "boolean", description: "Whether more follow." },
    },
  },
  FileDeleted: {
    type: "object",
    description: "A file that is gone.",
    required: ["id", "object", "deleted"],
    properties: {
      id: { type: "string", description: "Its id." },
      object: { type: "string", const: "file", description: "Always `file`." },
      deleted: { type: "boolean", const: true, description: "Always true." },
    },
  },
  OpenAiError: {
    type: "object",
    description: "An error as the OpenAI API sends it.",
    required: ["error"],
    properties: {
      error: {
        type: "object",
        description: "What went wrong.",
        required: ["message", "type", "param", "code"],
        properties: {
          message: { type: "string", description: "In words." },
          type: {
            type: "string",
            enum: ["invalid_request_error", "rate_limit_error", "insufficient_quota", "server_error"],
            description: "Whose fault it is.",
          },
          param: { type: ["string", "null"], description: "The field that is not valid." },
          code: { type: "string", description: "Stable name of the error." },
        },
      },
    },
  },
};
