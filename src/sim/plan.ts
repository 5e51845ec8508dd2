// What each token of an answer sends to the client, worked out before the first one is generated: the parts cut into
// tokens, then cut by `stop` and `max_tokens`. The engine decides only when. Pure.
import type { Answer } from "./answer.ts";
import type { Sampling } from "./sampling.ts";
import { tokenize } from "./tokenizer.ts";

/** What one token adds to the answer. */
export type Delta =
  | { readonly kind: "reasoning" | "content"; readonly text: string }
  /** The call itself; its arguments follow. `index` counts the calls of the answer. */
  | {
      readonly kind: "tool_call";
      readonly index: number;
      readonly id: string;
      readonly name: string;
      readonly text: "";
    }
  | { readonly kind: "tool_arguments"; readonly index: number; readonly text: string };

export interface Plan {
  /** The tokens; the end of sequence, where it comes to it, is the last one and empty. */
  readonly pieces: readonly string[];
  /** What each of them sends; its text is empty while it may be the beginning of a stop string. */
  readonly deltas: readonly Delta[];
  readonly finishReason: Answer["finishReason"] | "abort";
  /** The stop string that ended it, or the id of the stop token. */
  readonly stopReason: string | number | null;
}

type Cut = Pick<Sampling, "minTokens" | "ignoreEos" | "stop" | "stopPieces" | "includeStop">;

/** `room` is the most tokens that there may be. */
export function planAnswer(answer: Answer, sampling: Cut, room: number): Plan {
  const pieces: string[] = [];
  const deltas: Delta[] = [];
  let calls = 0;
  const say = (kind: "reasoning" | "content", text: string): void => {
    for (const piece of tokenize(text)) {
      pieces.push(piece);
      deltas.push({ kind, text: piece });
    }
  };
  for (const part of answer.parts) {
    if (part.kind !== "tool_call") {
      say(part.kind, part.text);
      continue;
    }
    const index = calls++;
    pieces.push(part.name);
    deltas.push({ kind: "tool_call", index, id: part.id, name: part.name, text: "" });
    for (const piece of tokenize(part.arguments)) {
      pieces.push(piece);
      deltas.push({ kind: "tool_arguments", index, text: piece });
    }
  }
  const wanted = sampling.ignoreEos ? room : Math.min(sampling.minTokens, room);
  if (pieces.length < wanted) sayAgain(answer, pieces, deltas, wanted);

  const ending = sampling.stopPieces.size === 0 ? -1 : findStopToken(deltas, sampling, room);
  const shown = ending < 0 ? deltas.slice(0, room) : endedBy(deltas, ending, sampling);
  const found = findStop(shown, sampling);
  if (found !== null) {
    const kept = withhold(shown.slice(0, found.tokens), sampling.stop, found.keptChars);
    return { pieces: pieces.slice(0, found.tokens), deltas: kept, finishReason: "stop", stopReason: found.stop };
  }
  const kept = withhold(shown, sampling.stop, null);
  if (ending >= 0) {
    const stopReason = sampling.stopPieces.get(pieces[ending] ?? "") ?? null;
    return { pieces: pieces.slice(0, ending + 1), deltas: kept, finishReason: "stop", stopReason };
  }
  if (pieces.length >= room) {
    return { pieces: pieces.slice(0, room), deltas: kept, finishReason: "length", stopReason: null };
  }
  return {
    pieces: [...pieces, ""],
    deltas: [...kept, { kind: "content", text: "" }],
    finishReason: answer.finishReason,
    stopReason: null,
  };
}

/**
 * The plan of an answer that ends after `made` tokens because the engine gave it up. It is changed in place, as whoever
 * sends the answer holds it.
 */
export function cutShort(plan: Plan, made: number): void {
  const deltas: readonly Delta[] = [...plan.deltas.slice(0, made), { kind: "content", text: "" }];
  const ended: Plan = { pieces: [...plan.pieces.slice(0, made), ""], deltas, finishReason: "abort", stopReason: null };
  Object.assign(plan, ended);
}

/** Whoever wants more than there is to say gets it said again, by the same objects: it may be very much. */
function sayAgain(answer: Answer, pieces: string[], deltas: Delta[], wanted: number): void {
  const text = answer.parts.map((part) => (part.kind === "content" ? part.text : "")).join("") || "And so on.";
  const again = tokenize(` ${text}`).map((piece): Delta => ({ kind: "content", text: piece }));
  while (pieces.length < wanted) {
    for (const delta of again) {
      pieces.push(delta.text);
      deltas.push(delta);
    }
  }
}

/** The first stop token, looked for in text alone; before `minTokens` a model is kept from making one. Or -1. */
function findStopToken(deltas: readonly Delta[], { stopPieces, minTokens }: Cut, room: number): number {
  const stops = ({ kind, text }: Delta): boolean =>
    (kind === "content" || kind === "reasoning") && stopPieces.has(text);
  return deltas.findIndex((delta, index) => index >= minTokens && index < room && stops(delta));
}

/** The deltas up to that token, which is made and not said. */
function endedBy(deltas: readonly Delta[], at: number, { includeStop }: Cut): Delta[] {
  const ended = deltas.slice(0, at + 1);
  const last = ended[at];
  if (last !== undefined && last.kind !== "tool_call" && !includeStop) ended[at] = { ...last, text: "" };
  return ended;
}

interface FoundStop {
  readonly stop: string;
  /** Tokens up to the one that completes it. */
  readonly tokens: number;
  /** Of the text of its kind since the kind last changed: what is left of it. */
  readonly keptChars: number;
}

/** The first token that completes a stop string, looked for in text alone; of two the one that begins earlier. */
function findStop(deltas: readonly Delta[], { stop: stops, minTokens, includeStop }: Cut): FoundStop | null {
  if (stops.length === 0) return null;
  let text = "";
  for (const [index, delta] of deltas.entries()) {
    if (delta.kind !== deltas[index - 1]?.kind) text = "";
    if (delta.kind !== "content" && delta.kind !== "reasoning") continue;
    const before = text.length;
    text += delta.text;
    if (index + 1 < minTokens) continue;
    let found: FoundStop | null = null;
    let foundAt = text.length;
    for (const stop of stops) {
      const at = text.indexOf(stop, Math.max(0, before - stop.length + 1));
      if (at < 0 || at >= foundAt) continue;
      foundAt = at;
      found = { stop, tokens: index + 1, keptChars: includeStop ? at + stop.length : at };
    }
    if (found !== null) return found;
  }
  return null;
}

/**
 * The same text, so late that nothing is sent that a stop string may take back: as many characters are held back as the
 * longest one has, less one, until the text goes on as something else or ends. `keptChars` cuts the last text.
 */
function withhold(deltas: readonly Delta[], stops: readonly string[], keptChars: number | null): readonly Delta[] {
  if (stops.length === 0) return deltas;
  const heldMax = Math.max(...stops.map((stop) => stop.length)) - 1;
  let text = "";
  let sent = 0;
  return deltas.map((delta, index) => {
    if (delta.kind !== "content" && delta.kind !== "reasoning") return delta;
    if (delta.kind !== deltas[index - 1]?.kind) {
      text = "";
      sent = 0;
    }
    text += delta.text;
    const isLast = index === deltas.length - 1;
    const runEnds = isLast || deltas[index + 1]?.kind !== delta.kind;
    const end =
      isLast && keptChars !== null ? keptChars : runEnds ? text.length : Math.max(sent, text.length - heldMax);
    const part = text.slice(sent, end);
    sent = end;
    return { kind: delta.kind, text: part };
  });
}
