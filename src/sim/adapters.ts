// `/v1/load_lora_adapter` and `/v1/unload_lora_adapter`: names that the model answers to besides its own, in vLLM's
// words. Nothing is read from the path that is given: the simulator has no weights.
import type { Exchange, Route, Simulation } from "./routes.ts";
import { WireError } from "./wire-error.ts";

export const adapterRoutes: readonly Route[] = [
  { method: "POST", path: "/v1/load_lora_adapter", body: "json", handle: load },
  { method: "POST", path: "/v1/unload_lora_adapter", body: "json", handle: unload },
];

const ADAPTERS_MAX = 1_000;

function load({ body }: Exchange, { models }: Simulation): Response {
  const { lora_name: name, lora_path: path } = body;
  if (typeof name !== "string" || typeof path !== "string" || name === "" || path === "") {
    throw new WireError(400, "Both 'lora_name' and 'lora_path' must be provided.");
  }
  const served = models.list();
  const known = served.find(({ id }) => id === name);
  if (known?.parent === null) {
    throw new WireError(400, `The lora adapter name '${name}' conflicts with a served base model.`, "lora_name");
  }
  if (known && body.load_inplace !== true) {
    const advice = "If you want to load the adapter in place, set 'load_inplace' to True.";
    throw new WireError(400, `The lora adapter '${name}' has already been loaded. ${advice}`);
  }
  if (served.length >= ADAPTERS_MAX) throw new WireError(400, `At most ${ADAPTERS_MAX} models are served.`);
  models.add({ id: name, parent: served.find(({ parent }) => parent === null)?.id ?? "base", root: path });
  return new Response(`Success: LoRA adapter '${name}' added successfully.`);
}

function unload({ body }: Exchange, { models }: Simulation): Response {
  const { lora_name: name } = body;
  if (typeof name !== "string" || name === "") throw new WireError(400, "'lora_name' needs to be provided.");
  const isAdapter = models.list().some(({ id, parent }) => id === name && parent !== null);
  if (!isAdapter) throw new WireError(404, `The lora adapter '${name}' cannot be found.`);
  models.remove(name);
  return new Response(`Success: LoRA adapter '${name}' removed successfully.`);
}
