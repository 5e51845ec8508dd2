// One question to a model server: which models it offers (`GET /models`). discovery.ts asks; the answer is a stranger's
// text and is checked and cut to size. It follows no redirect: the key is for this server.
import type { ProviderAccess } from "./llm-catalogue.ts";
import type { ProviderKind } from "./llm-models.ts";
import { modelIdPattern } from "./models-schema.ts";

export type Listed =
  | { readonly outcome: "listed"; readonly models: readonly string[]; readonly kind: ProviderKind }
  /** It is up and has no such list. */
  | { readonly outcome: "no-list" }
  /** It does not take our key. */
  | { readonly outcome: "unauthorized" }
  | { readonly outcome: "failed"; readonly reason: string };

const ANSWER_MS_MAX = 5_000;
/** The lists of the largest providers have less. */
const ANSWER_BYTES_MAX = 1_048_576;
/** They travel with the presence of the actor. */
const MODELS_MAX = 500;
const MODEL_ID = new RegExp(modelIdPattern);

/** Never rejects. */
export async function askModels({ baseUrl, apiKey, headers }: ProviderAccess, signal: AbortSignal): Promise<Listed> {
  try {
    const response = await fetch(`${baseUrl}/models`, {
      headers: {
        accept: "application/json",
        ...headers,
        ...(apiKey !== null && { authorization: `Bearer ${apiKey}` }),
      },
      redirect: "manual",
      signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS_MAX)]),
    });
    if (response.status === 200) return listOf(await readText(response));
    await response.body?.cancel();
    if ([401, 403].includes(response.status)) return { outcome: "unauthorized" };
    if ([404, 405, 501].includes(response.status)) return { outcome: "no-list" };
    return { outcome: "failed", reason: `status ${response.status}` };
  } catch (error) {
    // The message may hold the URL; its name and code do not.
    const { name, code } = error as { name?: string; code?: string };
    return { outcome: "failed", reason: code ?? name ?? "it does not answer" };
  }
}

async function readText(response: Response): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > ANSWER_BYTES_MAX) throw new RangeError("too long");
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

function listOf(text: string): Listed {
  const { data } = JSON.parse(text) as { data?: unknown };
  if (!Array.isArray(data)) return { outcome: "failed", reason: "its list is none" };
  const cards = data.flatMap((card: unknown) => (typeof card === "object" && card !== null ? [card] : [])) as {
    readonly id?: unknown;
    readonly owned_by?: unknown;
  }[];
  const names = cards.flatMap(({ id }) => (typeof id === "string" && MODEL_ID.test(id) ? [id] : []));
  const isVllm = cards.some(({ owned_by }) => owned_by === "vllm");
  return { outcome: "listed", models: [...new Set(names)].slice(0, MODELS_MAX), kind: isVllm ? "vllm" : "openai" };
}
