// A call from its plan to its end, the same in a gateway and in an actor: what is planned, tried, answered, reported to
// the models' health and told to the observer. local-caller.ts and src/live/caller.ts give it their way of trying.
import type { Clock } from "../clock.ts";
import { AppError, asAppError } from "../errors.ts";
import type { LlmModels, TryNews } from "../models/llm-models.ts";
import { answerOf } from "./answer.ts";
import { type Opened, openFirst, type Ways } from "./attempts.ts";
import { encodeFor } from "./encode.ts";
import type { LlmAnswer, LlmEnd, LlmRequest } from "./llm.ts";
import type { CallObserver } from "./observer.ts";
import type { Blamed } from "./try.ts";
import type { Watchdog } from "./watchdog.ts";

/** Whole time of a call, over all its tries. The official SDKs wait no longer. */
const TOTAL_MS_MAX = 600_000;

export interface CallParts {
  readonly models: LlmModels;
  readonly clock: Clock;
  readonly watchdog: Watchdog;
  readonly random: () => number;
  readonly observer: CallObserver;
}

/** How a call is tried, and what is to be done when it is over, answered or not. */
export interface CallWays extends Pick<Ways, "choose" | "open"> {
  readonly onOver: () => void;
}

/** The answer of the first target that gives one. Throws as LlmCaller.call does. */
export async function callTargets(request: LlmRequest, parts: CallParts, ways: CallWays): Promise<LlmAnswer> {
  const { models, clock, watchdog, observer } = parts;
  const { endpoint, stream, signal } = request;
  const model = models.resolve(request.model, endpoint)?.id;
  if (model === undefined) {
    ways.onOver();
    throw models.missing(request.model, endpoint);
  }
  const startedMs = clock.monotonicMs();
  const deadlineMs = startedMs + TOTAL_MS_MAX;
  const sinceMs = (): number => clock.monotonicMs() - startedMs;
  observer.began(model, endpoint);
  let opened: Opened;
  try {
    opened = await openFirst(models.plan(request.model, endpoint, request.stickyKey), request, deadlineMs, {
      choose: ways.choose,
      open: ways.open,
      encode: encodeFor,
      report: (target, actorId, outcome) => models.report(target, actorId, outcome),
      onRetry: (why) => observer.retried(model, why),
      random: parts.random,
    });
  } catch (thrown) {
    ways.onOver();
    const isRefused = asAppError(thrown)?.code === "model_unavailable" && models.refused(request.model, endpoint);
    const error = isRefused ? new AppError("upstream_unauthorized", "The model server refuses our key.") : thrown;
    const code = signal.aborted ? "cancelled" : (asAppError(error)?.code ?? "internal");
    observer.refused(model, endpoint, code, sinceMs());
    throw error;
  }
  const { target, actorId } = opened;
  models.report(target, actorId, "begun");
  if (target.model !== model) observer.fellBack(model, target.model);
  const firstTokenMs = sinceMs();
  const onEnd = (end: LlmEnd): void => {
    const { blamed } = opened.answer;
    // An actor that died with a hundred answers would close its server to all others.
    if (blamed !== "actor") models.report(target, actorId, newsOf(end, blamed));
    ways.onOver();
    const gaps = end.usage.completionTokens - 1;
    // The tokens of a picture do not come one by one.
    const streamed = stream && endpoint !== "images/generations" && end.firstTokenMs !== null && gaps > 0;
    const durationMs = sinceMs();
    observer.ended(model, endpoint, end, {
      durationMs,
      tokenGapMs: streamed ? (durationMs - firstTokenMs) / gaps : null,
    });
  };
  return answerOf({ signal, opened, firstTokenMs, watchdog, deadlineMs, onEnd });
}

/** A client that left says nothing against a server that had begun to answer. */
const newsOf = ({ outcome }: LlmEnd, blamed: Blamed | undefined): TryNews =>
  outcome !== "failed" ? "ok" : blamed === "unclear" ? "unclear" : "failed";
