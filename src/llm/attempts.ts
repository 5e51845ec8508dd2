// The loop over targets: one try after the other until an answer has begun, never again where it has just failed, never
// after a client's own error, within one deadline. A gateway and an actor give it their way of trying. Once it has
// returned, nothing is tried any more: what fails then is the answer's to tell.
import { pause } from "../clock.ts";
import { AppError, asAppError } from "../errors.ts";
import type { LlmModels, Target, TryOutcome } from "../models/llm-models.ts";
import type { EncodedBody } from "./encode.ts";
import type { LlmRequest } from "./llm.ts";
import { type Try, type TryAnswer, TryFailure } from "./try.ts";

/** Tries that failed and are followed by another. A full server costs none of them. */
const RETRIES_MAX = 2;
const BACKOFF_MS = 100;
/** Tries in all, full servers included. */
const TRIES_MAX = 16;

export interface Ways {
  /** The actor to try `target` at, none of `excluded`; null where there is none. */
  choose(target: Target, excluded: ReadonlySet<string>): string | null;
  /** Throws TryFailure, or the signal's reason. */
  open(attempt: Try): Promise<TryAnswer>;
  readonly encode: (target: Target, request: LlmRequest) => Promise<EncodedBody>;
  readonly report: LlmModels["report"];
  /** A try failed, and another follows. */
  readonly onRetry: (why: TryOutcome) => void;
  /** In [0, 1). */
  readonly random: () => number;
}

export interface Opened {
  readonly target: Target;
  readonly actorId: string;
  readonly answer: TryAnswer;
}

/** Throws `invalid_request`, `model_overloaded`, `model_unavailable`, `upstream_failed`, `upstream_timeout`, or the request's abort. */
export async function openFirst(
  targets: readonly Target[],
  request: LlmRequest,
  deadlineMs: number,
  ways: Ways,
): Promise<Opened> {
  const course = new Course(targets);
  try {
    course.opened = await inTurn(course, request, deadlineMs, ways);
    return course.opened;
  } finally {
    course.tellUnclear(ways.report);
  }
}

async function inTurn(course: Course, request: LlmRequest, deadlineMs: number, ways: Ways): Promise<Opened> {
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    request.signal.throwIfAborted();
    const place = course.next(ways);
    if (place === null) break;
    if (course.last !== null) {
      ways.onRetry(course.last.outcome);
      const waitMs = course.backoffMs(ways.random());
      if (waitMs > 0) await pause(waitMs, request.signal);
      request.signal.throwIfAborted();
    }
    const { target, actorId } = place;
    const body = await ways.encode(target, request).catch((error: unknown) => course.unfit(target, error));
    if (body === null) continue;
    request.onAsked?.(target);
    try {
      const answer = await ways.open({ target, actorId, request, body, signal: request.signal, deadlineMs });
      return { target, actorId, answer };
    } catch (error) {
      if (!(error instanceof TryFailure)) throw error;
      if (course.isNews(place, error)) ways.report(target, actorId, error.outcome);
      course.failed(target, actorId, error);
    }
  }
  throw course.verdict();
}

interface Place {
  readonly target: Target;
  readonly actorId: string;
}

/** What is left to try. */
class Course {
  last: TryFailure | null = null;
  opened: Opened | null = null;
  #targets: Target[];
  #retries = 0;
  #full: TryFailure | null = null;
  /** A server had the request, and failed. */
  #broken: TryFailure | null = null;
  #unfit: AppError | null = null;
  /** Actors that are gone or have no room: they cannot try any target. */
  readonly #lost = new Set<string>();
  /** Addresses that have failed. */
  readonly #failed = new Set<Target>();
  /** Servers that have answered with an error of their own. */
  readonly #unclear: Place[] = [];
  /** Actors at which a target was tried. */
  readonly #tried = new Map<Target, Set<string>>();

  constructor(targets: readonly Target[]) {
    this.#targets = [...targets];
  }

  next(ways: Ways): Place | null {
    for (const target of this.#targets) {
      const actorId = ways.choose(target, new Set([...this.#lost, ...(this.#tried.get(target) ?? [])]));
      if (actorId !== null) return { target, actorId };
    }
    return null;
  }

  /** The target cannot be asked for this: others may. Throws what is no client's mistake. */
  unfit(target: Target, error: unknown): null {
    const reason = asAppError(error);
    if (reason?.code !== "invalid_request") throw error;
    this.#unfit = reason;
    this.#targets = this.#targets.filter((other) => other !== target);
    return null;
  }

  /**
   * Whether the server's health is to hear of it now. A call that is tried three times at one address counts once: two
   * calls with an input that their server cannot bear would close it to everybody else.
   */
  isNews(place: Place, { blamed, outcome }: TryFailure): boolean {
    const { target } = place;
    if (blamed === "actor") return false;
    if (outcome !== "failed") return true;
    if (!target.perGpu && this.#failed.has(target)) return false;
    this.#failed.add(target);
    if (blamed === "unclear") this.#unclear.push(place);
    return blamed === "server";
  }

  /**
   * Tells of the servers that answered the request with an error: they failed if another could answer it. Where nobody
   * could, the request may be what breaks them (docs/decisions/0044).
   */
  tellUnclear(report: Ways["report"]): void {
    for (const { target, actorId } of this.#unclear) {
      const isOther = this.opened?.target !== target || (target.perGpu && this.opened.actorId !== actorId);
      report(target, actorId, this.opened?.answer.status === 200 && isOther ? "failed" : "unclear");
    }
  }

  failed(target: Target, actorId: string, failure: TryFailure): void {
    this.last = failure;
    if (failure.outcome === "overloaded") this.#full = failure;
    else this.#retries++;
    const { code } = failure.error;
    const isBroken = code === "upstream_failed" || code === "upstream_timeout";
    if (isBroken && failure.blamed !== "actor") this.#broken = failure;
    const without = this.#targets.filter((other) => other !== target);
    if (failure.blamed === "actor") this.#lost.add(actorId);
    else if (failure.outcome === "unauthorized") {
      this.#targets = this.#targets.filter((other) => other.provider !== target.provider);
    } else if (target.perGpu) {
      this.#tried.set(target, (this.#tried.get(target) ?? new Set()).add(actorId));
    } else if (failure.outcome === "overloaded") this.#targets = without;
    // Behind one address may stand many servers: it is tried again, after the others.
    else this.#targets = [...without, target];
    if (this.#retries > RETRIES_MAX) this.#targets = [];
  }

  /** None after what leaves the server unharmed: a full one, an actor that is gone. */
  backoffMs(random: number): number {
    if (this.last === null || this.last.outcome !== "failed" || this.last.blamed === "actor") return 0;
    return BACKOFF_MS * 2 ** (this.#retries - 1) * (0.8 + 0.4 * random);
  }

  /**
   * Why there is no answer: a failure says more than a full server, which says more than that nobody was there. What a
   * server did with the request comes first of all: it may have died of it, and must not be taken for one that is away.
   */
  verdict(): AppError {
    if (this.#broken) return this.#broken.error;
    const failure = this.last?.outcome === "overloaded" || this.last === null ? this.#full : this.last;
    if (failure?.blamed === "actor" && this.#full) return this.#full.error;
    if (failure) return failure.error;
    return (
      this.#unfit ?? new AppError("model_unavailable", "No server of the model can be reached.", { retryAfterS: 5 })
    );
  }
}
