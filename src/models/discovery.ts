// Asks the model servers that this actor reaches for their models, now and again: which names they offer, and whether
// they are up. Each actor starts one and announces what it has found. It sends no work.
import { pause } from "../clock.ts";
import type { Log } from "../log.ts";
import { askModels, type Listed } from "./ask-models.ts";
import { UNAUTHORIZED_MS } from "./health.ts";
import type { ProviderAccess } from "./llm-catalogue.ts";
import type { ProviderConfig } from "./models-file.ts";
import type { LlmOffer, LlmOffers } from "./offers.ts";

export interface DiscoveryOptions {
  readonly providers: () => readonly ProviderConfig[];
  /** May throw: not yet. */
  readonly access: (provider: string) => ProviderAccess;
  /** LLM_MODEL: what a server without a list is taken to offer. */
  readonly defaultModel: string | null;
  /** They differ from those before. */
  readonly onChange: (offers: LlmOffers) => void;
  readonly log: Log;
}

export interface Discovery {
  offers(): LlmOffers;
  /** Begins anew with the providers as they are now: after the file was loaded anew, or a server has come up. */
  restart(): void;
  stop(): void;
}

const ASK_EVERY_MS = 15_000;
/** A server that does not answer is asked sooner, then less and less often. */
const RETRY_MS_FIRST = 250;
const RETRY_MS_MAX = 5_000;
/** A vLLM has one or two; a provider may have hundreds. */
const LOGGED_MODELS_MAX = 10;

export function startDiscovery(options: DiscoveryOptions): Discovery {
  const offers = new Map<string, LlmOffer>();
  let stopping = new AbortController();
  let said = "{}";
  const announce = (): void => {
    const now = Object.fromEntries(offers);
    const text = JSON.stringify(now);
    if (text === said) return;
    said = text;
    options.onChange(now);
  };
  const start = (): void => {
    const providers = options.providers();
    for (const name of offers.keys()) if (!providers.some((one) => one.name === name)) offers.delete(name);
    const { signal } = stopping;
    for (const provider of providers) {
      const { name, kind, perGpu, discover } = provider;
      if (discover) void follow(provider, options, offers, announce, signal);
      else offers.set(name, { models: null, ready: true, kind: kind ?? "openai", perGpu });
    }
    announce();
  };
  start();
  return {
    offers: () => Object.fromEntries(offers),
    restart() {
      stopping.abort();
      stopping = new AbortController();
      start();
    },
    stop: () => stopping.abort(),
  };
}

/** Asks one server until the end. */
async function follow(
  { name, kind, perGpu }: ProviderConfig,
  { access, defaultModel, log }: DiscoveryOptions,
  offers: Map<string, LlmOffer>,
  announce: () => void,
  signal: AbortSignal,
): Promise<void> {
  let failures = 0;
  while (!signal.aborted) {
    const { url, listed } = await ask(access, name, signal);
    if (signal.aborted) return;
    const before = offers.get(name);
    if (listed.outcome === "no-list" && !before && defaultModel === null) {
      log.warn({ provider: name }, "the model server has no list of models: LLM_MODEL has to name the one to use");
    }
    if (listed.outcome === "listed" || listed.outcome === "no-list") {
      const models = listed.outcome === "listed" ? listed.models : defaultModel === null ? [] : [defaultModel];
      const found = listed.outcome === "listed" ? listed.kind : "openai";
      offers.set(name, { models, ready: true, kind: kind ?? found, perGpu });
      if (failures > 0 || !before)
        log.info({ provider: name, url, models: models.slice(0, LOGGED_MODELS_MAX) }, "the model server answers");
      failures = 0;
    } else {
      const down = offerOfDown(before, listed, { kind: kind ?? "openai", perGpu });
      if (down) offers.set(name, down);
      else offers.delete(name);
      if (failures++ === 0 && url !== null) {
        const reason = listed.outcome === "failed" ? listed.reason : "it does not take the key";
        log.warn({ provider: name, url, reason }, "the model server does not answer");
      }
    }
    announce();
    await pause(delayMs(listed, failures), signal);
  }
}

/** What a server offers that does not answer, or not to us: its models stay known, if they ever were. */
function offerOfDown(
  before: LlmOffer | undefined,
  { outcome }: Listed,
  about: Pick<LlmOffer, "kind" | "perGpu">,
): LlmOffer | null {
  if (outcome === "unauthorized") return { models: [], ...about, ...before, ready: false, refused: true };
  if (!before) return null;
  const { refused, ...known } = before;
  return refused && known.models?.length === 0 ? null : { ...known, ready: false };
}

/** `url` is for the log; it holds no secret, as a base URL with one is refused. */
async function ask(
  access: DiscoveryOptions["access"],
  name: string,
  signal: AbortSignal,
): Promise<{ readonly url: string | null; readonly listed: Listed }> {
  let reached: ProviderAccess;
  try {
    reached = access(name);
  } catch {
    // Whoever starts it says so, and restarts this.
    return { url: null, listed: { outcome: "failed", reason: "it is not started yet" } };
  }
  return { url: reached.baseUrl, listed: await askModels(reached, signal) };
}

function delayMs({ outcome }: Listed, failures: number): number {
  if (outcome === "unauthorized") return UNAUTHORIZED_MS;
  return failures === 0 ? ASK_EVERY_MS : Math.min(RETRY_MS_FIRST * 2 ** (failures - 1), RETRY_MS_MAX);
}
