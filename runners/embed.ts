// Vectors for texts. The texts of tasks that wait at the same time go to the model server in one call, each task gets
// its own back in order, and a text that the server refuses fails its own task alone. The host calls it for tasks of
// the model `embed`.
import { defineRunner, type RunnerContext, t } from "millrace";
import { MAX_ATTEMPTS } from "./llm/generation.ts";

/** OpenAI's limit for one request. */
const TEXTS_MAX = 2_048;
/** More in one call make its answer large and its failure dear; servers batch by tokens anyway. */
const CALL_TEXTS_MAX = 256;

const input = t.Object({
  input: t.Union(
    [t.String({ minLength: 1 }), t.Array(t.String({ minLength: 1 }), { minItems: 1, maxItems: TEXTS_MAX })],
    {
      description: `A text, or a list of at most ${TEXTS_MAX}.`,
    },
  ),
  model: t.Optional(
    t.String({ minLength: 1, maxLength: 256, description: "Embedding model, as in models.yaml. Default: the first." }),
  ),
  dimensions: t.Optional(
    t.Integer({ minimum: 1, maximum: 65_536, description: "Length of the vectors, where the model lets one choose." }),
  ),
});

interface Item {
  readonly texts: readonly string[];
  readonly model: string;
  readonly dimensions: number | undefined;
}

interface Embedded {
  readonly vectors: readonly number[][];
  readonly promptTokens: number;
  readonly model: string;
}

export default defineRunner({
  name: "embed",
  version: "1.0.0",
  summary: "Turns texts into vectors; tasks that wait at the same time share a call of the model server.",
  input,
  output: t.Object({
    embeddings: t.Array(t.Array(t.Number()), { description: "One vector a text, in order." }),
    dimensions: t.Integer({ minimum: 1 }),
    usage: t.Object(
      { prompt_tokens: t.Integer({ minimum: 0 }) },
      { description: "Of a call that several tasks shared the part that falls to this one by its length." },
    ),
    model: t.String({ description: "The embedding model, as in models.yaml." }),
  }),
  example: { input: ["a cat on a roof", "a kitten on a house"] },
  batch: { max: 64, waitMs: 5 },
  maxAttempts: MAX_ATTEMPTS,
  prepare: ({ input: given, model = "", dimensions }): Item => ({
    texts: typeof given === "string" ? [given] : given,
    model,
    dimensions,
  }),
  inferBatch: async (items, contexts) => {
    const answers: (Embedded | Error)[] = [];
    const calls = callsOf(items, contexts).map(async (places) => {
      const answered = await embedTogether(
        places.map((place) => at(items, place)),
        contextOf(contexts, places),
      );
      for (const [i, place] of places.entries()) answers[place] = at(answered, i);
    });
    await Promise.all(calls);
    return answers;
  },
  postprocess: (answer) => {
    if (answer instanceof Error) throw answer;
    const { vectors, promptTokens, model } = answer;
    const [first = []] = vectors;
    return { embeddings: [...vectors], dimensions: first.length, usage: { prompt_tokens: promptTokens }, model };
  },
});

type Contexts = readonly RunnerContext<unknown>[];

function at<T>(list: readonly T[], index: number): T {
  const found = list[index];
  if (found === undefined) throw new RangeError("no such item of the batch");
  return found;
}

/** The call is made for one task's owner, and ends with that task: one that still stands, if any does. */
const contextOf = (contexts: Contexts, places: readonly number[]): RunnerContext<unknown> =>
  at(contexts, places.find((place) => !at(contexts, place).signal.aborted) ?? at(places, 0));

/** Numbers of the items that may share a call: of one owner, model and length, up to so many texts. */
function callsOf(items: readonly Item[], contexts: Contexts): readonly (readonly number[])[] {
  const calls: number[][] = [];
  const open = new Map<string, { readonly places: number[]; texts: number }>();
  for (const [place, { texts, model, dimensions }] of items.entries()) {
    const kind = JSON.stringify([at(contexts, place).task.ownerId, model, dimensions]);
    const call = open.get(kind);
    if (call && call.texts + texts.length <= CALL_TEXTS_MAX) {
      call.places.push(place);
      call.texts += texts.length;
    } else {
      const places = [place];
      calls.push(places);
      open.set(kind, { places, texts: texts.length });
    }
  }
  return calls;
}

/** A failure is the answer of one item alone: those who shared a call that was refused are asked for one by one. */
async function embedTogether(
  items: readonly Item[],
  ctx: RunnerContext<unknown>,
): Promise<readonly (Embedded | Error)[]> {
  try {
    return await embed(items, ctx);
  } catch (error) {
    if (!(error instanceof Error) || ctx.signal.aborted) throw error;
    if (items.length === 1 || !isRefusal(error)) return items.map(() => error);
    const alone = await Promise.all(items.map((item) => embedTogether([item], ctx)));
    return alone.flat();
  }
}

const isRefusal = (error: Error): boolean =>
  "status" in error && typeof error.status === "number" && error.status >= 400 && error.status < 429;

async function embed(items: readonly Item[], ctx: RunnerContext<unknown>): Promise<readonly Embedded[]> {
  const [{ model, dimensions }] = [at(items, 0)];
  const texts = items.flatMap((item) => item.texts);
  const { data: answer, response } = await ctx.llm.embeddings
    .create({ input: texts, model, ...(dimensions !== undefined && { dimensions }) })
    .withResponse();
  const vectors: number[][] = [];
  for (const { index, embedding } of answer.data) vectors[index] = embedding;
  const lengths = items.map((item) => item.texts.reduce((sum, text) => sum + text.length, 0));
  const shares = shared(answer.usage?.prompt_tokens ?? 0, lengths);
  let next = 0;
  return items.map((item, i) => ({
    vectors: item.texts.map(() => at(vectors, next++)),
    promptTokens: at(shares, i),
    model: response.headers.get("x-millrace-model") ?? "",
  }));
}

/** `total` in whole parts that sum to it, by weight. */
function shared(total: number, weights: readonly number[]): readonly number[] {
  const whole = weights.reduce((sum, weight) => sum + weight, 0);
  let weight = 0;
  let given = 0;
  return weights.map((one) => {
    weight += one;
    const part = Math.round((total * weight) / whole) - given;
    given += part;
    return part;
  });
}
