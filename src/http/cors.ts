// Cross-origin requests (Fetch Standard, CORS protocol): lets the pages of the origins in CORS_ORIGINS call the API and
// read its answers. Not in the way where none is configured. Never a wildcard and never credentials: keys travel in a
// header that a page must be given, so no cookie of a user can be ridden.

type Serve = (request: Request) => Response | Promise<Response>;

/** What a page may send beside the few headers that the standard always allows. */
const allowedHeaders = [
  "authorization",
  "content-type",
  "idempotency-key",
  "if-none-match",
  "last-event-id",
  "prefer",
  "range",
  "traceparent",
  "x-api-key",
  "x-request-id",
  "x-session-id",
  // What OpenAI's SDK says of itself.
  "openai-organization",
  "openai-project",
  "x-stainless-arch",
  "x-stainless-helper-method",
  "x-stainless-lang",
  "x-stainless-os",
  "x-stainless-package-version",
  "x-stainless-poll-helper",
  "x-stainless-retry-count",
  "x-stainless-runtime",
  "x-stainless-runtime-version",
  "x-stainless-timeout",
].join(", ");

/** What a page may read beside content-type, content-length, cache-control and the like. */
const exposedHeaders = [
  "accept-ranges",
  "content-disposition",
  "content-range",
  "etag",
  "idempotency-replayed",
  "location",
  "preference-applied",
  "ratelimit",
  "ratelimit-policy",
  "retry-after",
  "retry-after-ms",
  "x-ratelimit-limit-tokens",
  "x-ratelimit-remaining-tokens",
  "x-ratelimit-reset-tokens",
  "x-request-id",
  "x-should-retry",
].join(", ");

/** Browsers ask again after this; Chromium keeps an answer for two hours at most. */
const preflightMaxAgeS = 600;

/** `serve`, answering pages of `origins` (as `URL.origin` writes them) too. */
export function withCors(serve: Serve, origins: readonly string[]): Serve {
  if (origins.length === 0) return serve;
  const allowed = new Set(origins);
  return async (request) => {
    const response = await serve(request);
    // Also where it is not allowed: a cache must not give one origin what was made for another.
    response.headers.append("vary", "origin");
    const origin = request.headers.get("origin");
    if (origin === null || !allowed.has(origin)) return response;
    response.headers.set("access-control-allow-origin", origin);
    const methods = response.headers.get("allow");
    if (request.method === "OPTIONS" && request.headers.has("access-control-request-method") && methods !== null) {
      response.headers.set("access-control-allow-methods", methods);
      response.headers.set("access-control-allow-headers", allowedHeaders);
      response.headers.set("access-control-max-age", String(preflightMaxAgeS));
    } else response.headers.set("access-control-expose-headers", exposedHeaders);
    return response;
  };
}
