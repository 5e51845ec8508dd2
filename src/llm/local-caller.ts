// The LlmCaller of an actor's own runners: plan, and call the model servers from this process. Made once an actor; what
// a gateway wants of the same servers comes by src/live.
import type { Clock } from "../clock.ts";
import { asAppError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { ProviderAccess } from "../models/llm-catalogue.ts";
import type { LlmModels } from "../models/llm-models.ts";
import { type CallParts, callTargets } from "./calls.ts";
import { estimatePromptTokens } from "./estimate.ts";
import type { LlmCaller } from "./llm.ts";
import { type CallObserver, silentObserver } from "./observer.ts";
import { TryFailure } from "./try.ts";
import { createUpstream } from "./upstream.ts";
import { Watchdog } from "./watchdog.ts";

export interface LocalCallerOptions {
  readonly models: LlmModels;
  /** Where a provider is, seen from this GPU. Throws `model_unavailable`. */
  readonly provider: (name: string, gpu: string) => ProviderAccess;
  readonly gpu: string;
  readonly actorId: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly observer?: CallObserver;
}

export function createLocalCaller(options: LocalCallerOptions): LlmCaller {
  const { models, provider, gpu, actorId, clock, log, observer = silentObserver } = options;
  const watchdog = new Watchdog(clock);
  const upstream = createUpstream(watchdog, log);
  const parts: CallParts = { models, clock, watchdog, random: Math.random, observer };
  const accessTo = (name: string): ProviderAccess => {
    try {
      return provider(name, gpu);
    } catch (error) {
      const reason = asAppError(error);
      throw reason ? new TryFailure("failed", reason) : error;
    }
  };
  return {
    call(request) {
      const { endpoint, stream, streamUsage, requestId, signal } = request;
      const promptEstimate = estimatePromptTokens(request.body);
      return callTargets(request, parts, {
        choose: (target, excluded) => (!excluded.has(actorId) && models.admits(target, actorId) ? actorId : null),
        async open({ target, body, deadlineMs }) {
          const access = accessTo(target.provider);
          const call = { endpoint, stream, streamUsage, requestId, signal, promptEstimate, deadlineMs };
          return upstream.open({ ...call, provider: access, body });
        },
        onOver: () => {},
      });
    },
  };
}
