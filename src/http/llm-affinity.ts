// Which calls belong together: the same conversation, or the same long prefix, so that they reach the GPU whose cache
// holds it; and the same caller, so that one stays with a variant of a model. Called by llm.ts for every request. It
// reads the start of a prompt, never all of it, and nothing of it can be told from the digest.
import type { Fields } from "./llm-request.ts";

/** Characters of a prompt that are looked at: some 2,000 tokens, a long system prompt and the first question. */
const PREFIX_CHARS_MAX = 8_192;
const DIGEST_CHARS = 22;

/**
 * A digest of what the call shares with others of its key: the session that the client names (header `x-session-id`,
 * `prompt_cache_key`, `session_id`), else the messages up to the first of the user, else the start of the prompt. Empty
 * where there is none of these.
 */
export function affinityOf(keyId: string, headers: Headers, body: Fields): string {
  const session = headers.get("x-session-id") || body.prompt_cache_key || body.session_id;
  if (typeof session === "string") return digest([keyId, "session", session]);
  const prefix = prefixOf(body);
  return prefix === "" ? "" : digest([keyId, "prefix", String(body.model), prefix]);
}

/** The same caller: the key, and the end user whom it names. */
export const stickyKeyOf = (keyId: string, body: Fields): string =>
  typeof body.user === "string" ? `${keyId} ${body.user}` : keyId;

const digest = (parts: readonly string[]): string =>
  Bun.CryptoHasher.hash("sha256", JSON.stringify(parts), "base64url").slice(0, DIGEST_CHARS);

function prefixOf(body: Fields): string {
  const { prompt } = body;
  if (typeof prompt === "string") return prompt.slice(0, PREFIX_CHARS_MAX);
  // Several prompts share nothing that could be told here.
  if (Array.isArray(prompt)) {
    return prompt.every(Number.isInteger) ? prompt.slice(0, PREFIX_CHARS_MAX / 4).join(" ") : "";
  }
  if (!Array.isArray(body.messages)) return "";
  let text = "";
  for (const message of body.messages as readonly Fields[]) {
    text += `${String(message.role)}\n${textOf(message.content, PREFIX_CHARS_MAX - text.length)}\n`;
    if (message.role === "user" || text.length >= PREFIX_CHARS_MAX) break;
  }
  return text;
}

/** The start of a message: its text, and of a picture the start of its address. */
function textOf(content: unknown, charsMax: number): string {
  if (typeof content === "string") return content.slice(0, charsMax);
  if (!Array.isArray(content)) return "";
  let text = "";
  for (const part of content) {
    if (text.length >= charsMax) break;
    const { text: words, image_url: image } = part as { text?: unknown; image_url?: { url?: unknown } };
    const shown = typeof words === "string" ? words : image?.url;
    if (typeof shown === "string") text += `${shown.slice(0, charsMax)}\n`;
  }
  return text;
}
