// Where a call goes, as pure functions: which variant a sticky key falls to, and what comes after it. llm-catalogue.ts
// calls them for every call; they know neither health nor servers.

/** Of a model, with the share of the keys that fall to it. */
interface Weighted {
  readonly name: string;
  /** 0: none; it is tried never. */
  readonly weight: number;
}

/**
 * The variants in the order in which `stickyKey` prefers them: weighted rendezvous hashing (Schindelhauer and
 * Schomaker, 2005). Over all keys each comes first as often as its weight says; when one changes its weight, only keys
 * that it gains or loses move. The same on every gateway.
 */
export function ranked<T extends Weighted>(modelId: string, variants: readonly T[], stickyKey: string): T[] {
  if (variants.length === 1) return variants.filter(({ weight }) => weight > 0);
  return variants
    .filter(({ weight }) => weight > 0)
    .map((variant) => ({ variant, score: variant.weight / -Math.log(draw(modelId, variant.name, stickyKey)) }))
    .sort((a, b) => b.score - a.score)
    .map(({ variant }) => variant);
}

/** A number in (0, 1) that belongs to the three texts. */
function draw(modelId: string, variant: string, stickyKey: string): number {
  const hash = BigInt(Bun.hash(`${modelId}\n${variant}\n${stickyKey}`));
  return (Number(hash >> 11n) + 0.5) / 2 ** 53;
}

/** The model and then its fallbacks, theirs right behind each, no model twice. `fallbacksOf` may hold no cycle. */
export function withFallbacks(id: string, fallbacksOf: (id: string) => readonly string[]): readonly string[] {
  const first = fallbacksOf(id);
  if (first.length === 0) return [id];
  const order = new Set([id]);
  for (const fallback of first) for (const next of withFallbacks(fallback, fallbacksOf)) order.add(next);
  return [...order];
}
