// The names that the simulated model answers to: those it was started with, adapters that were loaded, or any at all
// where `*` is among them. `/v1/models` lists them as vLLM does.
import { jsonResponse } from "./json-response.ts";
import type { JsonBody, Route, ServedModel, ServedModels } from "./routes.ts";
import { WireError } from "./wire-error.ts";

const CREATED_S = 1_700_000_000;
const ANY = "*";

export function createServedModels(ids: readonly string[]): ServedModels {
  const models = new Map<string, ServedModel>(ids.map((id) => [id, { id, parent: null, root: id }]));
  return {
    list: () => [...models.values()].filter(({ id }) => id !== ANY),
    has: (id) => models.has(id) || models.has(ANY),
    isAdapter: (id) => (models.get(id)?.parent ?? null) !== null,
    add: (model) => void models.set(model.id, model),
    remove: (id) => models.delete(id),
  };
}

/** The model that a request names; the first one served where it names none. Throws WireError 404. */
export function servedModel(body: JsonBody, models: ServedModels): string {
  const name = body.model ?? models.list()[0]?.id ?? ANY;
  if (typeof name !== "string") throw new WireError(400, "model must be a string", "model");
  if (!models.has(name)) throw new WireError(404, `The model \`${name}\` does not exist.`, "model");
  return name;
}

export const modelRoutes: readonly Route[] = [
  {
    method: "GET",
    path: "/v1/models",
    handle: (_, simulation) => {
      const maxModelLen = simulation.engine.profile().maxModelLen;
      const data = simulation.models.list().map((model) => card(model, maxModelLen));
      return jsonResponse({ object: "list", data });
    },
  },
  {
    method: "GET",
    path: "/v1/models/*",
    handle: ({ rest }, { models, engine }) => {
      const model =
        models.list().find(({ id }) => id === rest) ??
        (models.has(rest) ? { id: rest, parent: null, root: rest } : null);
      if (model === null) throw new WireError(404, `The model \`${rest}\` does not exist.`, "model");
      return jsonResponse(card(model, engine.profile().maxModelLen));
    },
  },
];

const card = ({ id, parent, root }: ServedModel, maxModelLen: number) => ({
  id,
  object: "model",
  created: CREATED_S,
  owned_by: "vllm",
  root,
  parent,
  max_model_len: maxModelLen,
  permission: [],
});
