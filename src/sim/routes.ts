// What a route of the simulator is, and what its handler gets. The server (simulator.ts) holds the list of routes; a
// file that serves paths exports a list of its own. A handler throws WireError for what it refuses.
import type { Engine } from "./engine.ts";
import type { EngineClock } from "./engine-clock.ts";
import type { FaultSpec } from "./fault.ts";
import type { AnswerOptions } from "./modes/mode.ts";

export type JsonBody = Readonly<Record<string, unknown>>;

/** One request and what is known of it. */
export interface Exchange {
  readonly request: Request;
  readonly path: string;
  /** That of the header x-request-id, as a proxy gives it, or one made up; on the answer too. */
  readonly requestId: string;
  /** What `*` stands for, percent-decoded; empty without one. */
  readonly rest: string;
  /** Of routes that read one: the JSON object, or the texts of the form; empty else. */
  readonly body: JsonBody;
  /** The `file` of a form. */
  readonly file: File | null;
  /** Aborts when the client leaves. */
  readonly signal: AbortSignal;
  /** Of a handler that goes on sending when it has returned: what is given back is called with the last of it. */
  holdOpen(): () => void;
}

export interface Route {
  readonly method: "GET" | "POST";
  /** Exact, or with `/*` at the end for the rest. */
  readonly path: string;
  /** What is read and checked before the handler: an object, or a form. Default: nothing. */
  readonly body?: "json" | "form";
  handle(exchange: Exchange, simulation: Simulation): Response | Promise<Response>;
}

/** A fault for one exchange. */
export interface Fault {
  /** Before anything is done; an answer stands instead of the route's. May wait, until `signal` aborts. */
  before?(): Promise<Response | null>;
  /** Changes the route's answer. The body of a stream has one event a chunk; a comment may come before the first. */
  after?(response: Response): Response | Promise<Response>;
}

/** Asked once for every exchange, when its body has been read. */
export interface Faults {
  pick(exchange: Exchange): Fault | null;
}

/** Asked once for every text or conversation to be answered. */
export interface AnswerSource {
  /** What the request wants. Throws WireError 400. */
  optionsOf(exchange: Exchange): AnswerOptions;
  /** The fault that a scenario has for this moment of a conversation. Throws WireError 400. */
  faultOf(exchange: Exchange): FaultSpec | null;
  /** The settings by their names. */
  standing(): Readonly<Record<string, string | number>>;
  /** Checks a change of the settings; what it returns makes it. Throws WireError 400. */
  change(wanted: unknown): () => void;
}

/** The names that requests may call the model by. */
export interface ServedModels {
  list(): readonly ServedModel[];
  /** By id. Any name is served where `*` is. */
  has(id: string): boolean;
  isAdapter(id: string): boolean;
  add(model: ServedModel): void;
  remove(id: string): boolean;
}

export interface ServedModel {
  readonly id: string;
  /** The base model of an adapter; null for the model itself. */
  readonly parent: string | null;
  /** Where its weights are said to be. */
  readonly root: string;
}

/** What all handlers share. */
export interface Simulation {
  readonly engine: Engine;
  readonly clock: EngineClock;
  readonly models: ServedModels;
  readonly faults: Faults;
  readonly answers: AnswerSource;
  readonly seed: string;
  /** Ignores what vLLM ignores where it had better be refused. */
  readonly strictCompat: boolean;
  /** `millrace-sim-<profile>`, on every answer. */
  readonly fingerprint: string;
  /** Choices of requests that run or wait in the engine. */
  inflight(): number;
}
