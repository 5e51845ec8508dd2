// The contract between the HTTP layer and the models: what a gateway says of a runner without ever loading it.
// catalogue.ts implements it; nothing of NATS is visible here.
import type { FieldProblem } from "../errors.ts";
import type { RunnerDescription } from "../registry/description.ts";

/** One entry of `GET /v1/models`: what the runner says of itself, and what this gateway sees of it. */
export interface ModelDescription extends Omit<RunnerDescription, "sdk"> {
  /** Live actors that host it. */
  readonly actors: number;
  readonly healthy: boolean;
  /** When this gateway first saw it, seconds since the epoch. */
  readonly createdS: number;
}

export interface Models {
  list(): readonly ModelDescription[];
  get(name: string): ModelDescription | undefined;
  /** Cheaper than `get`. */
  knows(name: string): boolean;
  /** Problems of `input` against the model's schema; empty when it is valid. Paths start at the input. */
  check(name: string, input: unknown): readonly FieldProblem[];
}
