// The body of a request, read as its route wants it: a JSON object, or a form with a file. Throws WireError 400 for
// anything else. The server calls it before the handler.
import { isRecord } from "./chat-request.ts";
import type { JsonBody, Route } from "./routes.ts";
import { WireError } from "./wire-error.ts";

export interface ReadBody {
  readonly body: JsonBody;
  /** The form's `file`; null without one. */
  readonly file: File | null;
}

export async function readBody(request: Request, kind: Route["body"]): Promise<ReadBody> {
  if (kind === "json") return { body: await readJson(request), file: null };
  return kind === "form" ? readForm(request) : { body: {}, file: null };
}

async function readJson(request: Request): Promise<JsonBody> {
  let body: unknown;
  try {
    body = await request.json();
  } catch {
    throw new WireError(400, "The body is not valid JSON");
  }
  if (!isRecord(body)) throw new WireError(400, "The body must be a JSON object");
  return body;
}

/** Texts by name, lists where a name stands more than once; `vllm_xargs` is JSON, as vLLM reads it in a form. */
async function readForm(request: Request): Promise<ReadBody> {
  let form: FormData;
  try {
    form = (await request.formData()) as FormData;
  } catch {
    throw new WireError(400, "The body is not a form");
  }
  const body: Record<string, unknown> = {};
  for (const name of new Set(form.keys())) {
    const texts = form.getAll(name).filter((value) => typeof value === "string");
    if (texts.length > 0) body[name] = texts.length === 1 ? texts[0] : texts;
  }
  if (typeof body.vllm_xargs === "string") body.vllm_xargs = parsed(body.vllm_xargs);
  const file = form.get("file");
  return { body, file: file instanceof File ? file : null };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new WireError(400, "vllm_xargs is not valid JSON", "vllm_xargs");
  }
}
