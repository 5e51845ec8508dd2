// Constraints by the names that vLLM took before 0.12. It ignores them since, without a word, which costs its users days:
// here they are refused, unless the simulator is to be vLLM to the letter. Chats and completions ask.
import type { JsonBody } from "./routes.ts";
import { WireError } from "./wire-error.ts";

const guidedFields = [
  "guided_json",
  "guided_regex",
  "guided_choice",
  "guided_grammar",
  "guided_json_object",
  "guided_decoding_backend",
  "guided_whitespace_pattern",
] as const;

/** Throws WireError 400 for the first of them that is given. */
export function refuseGuided(body: JsonBody, { strictCompat }: { readonly strictCompat: boolean }): void {
  if (strictCompat) return;
  for (const name of guidedFields) {
    if (body[name] == null) continue;
    throw new WireError(400, `${name} is ignored by vLLM since 0.12: use structured_outputs instead.`, name);
  }
}
