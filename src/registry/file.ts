// Fields that hold bytes: how a runner declares them, how its output is checked, and what a client sees instead. Called
// by stages.ts for every output; pure, it never touches the store.
import { type TUnsafe, Type } from "@sinclair/typebox";
import { AppError } from "../errors.ts";

/** Bytes that become an object in the store. */
export interface FileOutput {
  readonly bytes: Uint8Array;
  /** A media type without parameters, such as `image/png`. */
  readonly contentType: string;
}

/** The JSON Schema keyword that marks a field of bytes; its value is the declared content type. */
export const FILE_KEYWORD = "x-millrace-file";

/** Where the key of the first file of an output stands in the task's result. */
const RESULT_KEY = "s3_key";

// RFC 6838, section 4.2: restricted names of at most 127 characters.
const MEDIA_TYPE = /^[a-z0-9][a-z0-9!#$&^_.+-]{0,126}\/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}$/;

/**
 * The schema of a field that holds bytes of `contentType` (`image/png`; `image/*` takes any subtype). It stands as a
 * property of a runner's output object, or is the whole output. In the task's result the first file becomes `s3_key`
 * and every other keeps its name; both hold the key of an object in the store. Throws `invalid_runner`.
 */
export function file(contentType: string): TUnsafe<FileOutput> {
  if (!MEDIA_TYPE.test(contentType.replace(/\/\*$/, "/any"))) {
    throw new AppError("invalid_runner", "file(contentType) takes a media type such as image/png or image/*");
  }
  return Type.Unsafe<FileOutput>({ [FILE_KEYWORD]: contentType });
}

/** A FileOutput; what `ctx.file` returns. Throws `invalid_output` for anything but bytes and a media type. */
export function fileOutput(bytes: Uint8Array, contentType: string): FileOutput {
  if (!(bytes instanceof Uint8Array)) throw new AppError("invalid_output", "file(bytes, …) takes a Uint8Array");
  if (!MEDIA_TYPE.test(contentType)) throw new AppError("invalid_output", "file(…, contentType) takes a media type");
  return { bytes, contentType };
}

/** Whether `value` holds bytes of the declared type. A plain object of this shape will do. */
export function isFileOutput(value: unknown, declared: string): value is FileOutput {
  if (typeof value !== "object" || value === null || !("bytes" in value) || !("contentType" in value)) return false;
  const { bytes, contentType } = value;
  if (!(bytes instanceof Uint8Array) || typeof contentType !== "string" || !MEDIA_TYPE.test(contentType)) return false;
  return declared.endsWith("/*") ? contentType.startsWith(declared.slice(0, -1)) : contentType === declared;
}

/** A field of bytes. `name` is null where the whole output is a file; `resultName` is its field in the result. */
export interface FileField {
  readonly name: string | null;
  readonly resultName: string;
  readonly contentType: string;
}

type Schema = Readonly<Record<string, unknown>>;

const isSchema = (value: unknown): value is Schema =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const propertiesOf = (schema: Schema): Schema => (isSchema(schema.properties) ? schema.properties : {});

const contentTypeOf = (schema: unknown): string | null => {
  const declared = isSchema(schema) ? schema[FILE_KEYWORD] : undefined;
  return typeof declared === "string" ? declared : null;
};

/** The file fields of an output schema, in order of writing. Throws `invalid_runner` for one that stands elsewhere. */
export function fileFields(output: Schema): readonly FileField[] {
  const whole = contentTypeOf(output);
  if (whole !== null) return [{ name: null, resultName: RESULT_KEY, contentType: whole }];
  const properties = propertiesOf(output);
  const fields: FileField[] = [];
  for (const [name, property] of Object.entries(properties)) {
    const contentType = contentTypeOf(property);
    if (contentType === null) continue;
    fields.push({ name, resultName: fields.length === 0 ? RESULT_KEY : name, contentType });
  }
  if (countFiles(output) > fields.length) {
    throw new AppError("invalid_runner", "file() may only be a property of the output object or the whole output");
  }
  if (fields.length > 0 && RESULT_KEY in properties && fields[0]?.name !== RESULT_KEY) {
    throw new AppError("invalid_runner", `an output with a file() has no other field named ${RESULT_KEY}`);
  }
  return fields;
}

function countFiles(value: unknown): number {
  if (Array.isArray(value)) return value.reduce<number>((sum, item) => sum + countFiles(item), 0);
  if (!isSchema(value)) return 0;
  const below = Object.values(value).reduce<number>((sum, item) => sum + countFiles(item), 0);
  return below + (contentTypeOf(value) === null ? 0 : 1);
}

/** The output schema as a client meets it in `result`: each file a string, the key of its object. */
export function publishedOutput(output: Schema, fields: readonly FileField[]): Schema {
  if (fields.length === 0) return output;
  const published: Record<string, unknown> = {};
  for (const field of fields) {
    published[field.resultName] = {
      type: "string",
      contentMediaType: field.contentType,
      description: "Key of an object in the store; GET /v1/tasks/{task_id}/result answers the bytes of s3_key.",
    };
  }
  if (fields[0]?.name === null) return { type: "object", properties: published, required: [RESULT_KEY] };
  const resultNames = new Map(fields.map((field) => [field.name, field.resultName]));
  for (const [name, property] of Object.entries(propertiesOf(output))) {
    if (!resultNames.has(name)) published[name] = property;
  }
  const required = Array.isArray(output.required) ? output.required.map((name) => resultNames.get(name) ?? name) : [];
  return { ...output, properties: published, required };
}

/** A file of an output. `path` is the JSON Pointer in the task's result where the key of its object belongs. */
export interface OutputFile {
  readonly path: string;
  readonly file: FileOutput;
}

/** Takes the files out of an output that has passed its schema; an optional one may be missing. */
export function splitFiles(
  output: unknown,
  fields: readonly FileField[],
): { readonly output: unknown; readonly files: readonly OutputFile[] } {
  if (fields[0]?.name === null) {
    return { output: {}, files: [{ path: pointer(fields[0].resultName), file: output as FileOutput }] };
  }
  const rest: Record<string, unknown> = { ...(output as object) };
  const files: OutputFile[] = [];
  for (const field of fields) {
    if (field.name === null || rest[field.name] === undefined) continue;
    files.push({ path: pointer(field.resultName), file: rest[field.name] as FileOutput });
    delete rest[field.name];
  }
  return { output: rest, files };
}

const pointer = (name: string): string => `/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`;

/** The task's result: the output with the key of each stored file at its place. */
export function withKeys(output: unknown, stored: readonly { readonly path: string; readonly key: string }[]): unknown {
  if (stored.length === 0) return output;
  const result: Record<string, unknown> = {};
  for (const { path, key } of stored) result[path.slice(1).replaceAll("~1", "/").replaceAll("~0", "~")] = key;
  return { ...result, ...(output as object) };
}
