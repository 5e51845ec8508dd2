// A request in the words of the server that is to answer it: its name for the model, and the usage of a stream always
// asked for. Pure; called for every try, as targets differ.
import type { Target } from "../models/llm-models.ts";
import type { LlmRequest } from "./llm.ts";

export interface EncodedBody {
  readonly contentType: string;
  readonly bytes: Uint8Array;
}

const encoder = new TextEncoder();

export async function encodeFor(target: Target, { body, stream }: LlmRequest): Promise<EncodedBody> {
  if (body.kind === "json") {
    const value = {
      ...body.value,
      model: target.upstreamModel,
      ...(stream && { stream_options: { ...(body.value.stream_options as object), include_usage: true } }),
    };
    return { contentType: "application/json", bytes: encoder.encode(JSON.stringify(value)) };
  }
  const form = new FormData();
  for (const [name, value] of body.fields) if (name !== "model") form.append(name, value);
  form.append("model", target.upstreamModel);
  form.append(
    "file",
    new File([body.file.bytes as Uint8Array<ArrayBuffer>], body.file.name, { type: body.file.contentType }),
  );
  const response = new Response(form);
  return { contentType: response.headers.get("content-type") ?? "", bytes: await response.bytes() };
}
