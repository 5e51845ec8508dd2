// A sketch about a topic, for requests to write something that the conversation holds no material for. It says that it
// is a sketch. Also the sentences of the `random` mode. Called by reply.ts and answer.ts.
import { drawInteger, drawOne, type Rng } from "../rng.ts";
import type { Language } from "./language.ts";

interface Sketch {
  readonly opening: string;
  readonly sentences: readonly string[];
  readonly topic: RegExp;
  readonly nameless: string;
}

const sketches: Readonly<Record<"en" | "de" | "zh", Sketch>> = {
  en: {
    opening: "As a simulator I can only sketch this.",
    sentences: [
      "{T} begins with a question that is easy to ask and hard to answer.",
      "Whoever knows {t} well says that the details matter more than the plan.",
      "A first step is to look at what is already there.",
      "In a second step, what does not help is left out.",
      "With time, {t} becomes a habit rather than a task.",
      "Not everybody agrees, and that is part of it.",
      "A small example shows more of {t} than a long explanation.",
      "In the end, what counts about {t} is whether it helps somebody.",
    ],
    topic: /\b(?:about|on|of|for)\s+((?:the\s+|an?\s+)?[\p{L}\p{N}' -]{2,60})/iu,
    nameless: "the matter",
  },
  de: {
    opening: "Als Simulator kann ich das nur skizzieren.",
    sentences: [
      "Am Anfang steht bei „{T}“ eine Frage, die leicht gestellt und schwer beantwortet ist.",
      "Wer sich mit „{T}“ auskennt, achtet mehr auf die Einzelheiten als auf den Plan.",
      "Der erste Schritt ist, sich anzusehen, was schon da ist.",
      "Im zweiten Schritt fällt weg, was nicht hilft.",
      "Mit der Zeit wird daraus eine Gewohnheit.",
      "Nicht alle sehen das so, und das gehört dazu.",
      "Ein kleines Beispiel zeigt mehr als eine lange Erklärung.",
      "Am Ende zählt, ob es jemandem hilft.",
    ],
    topic: /\b(?:über|zu|zum|zur|von|für)\s+(?:den\s+|die\s+|das\s+|eine?n?\s+)?([\p{L}\p{N}' -]{2,60})/iu,
    nameless: "dieses Thema",
  },
  zh: {
    opening: "我是模拟器，只能写个梗概。",
    sentences: [
      "说到{t}，问题容易提，答案却不容易找。",
      "熟悉{t}的人都知道，细节比计划更重要。",
      "第一步是看看已经有什么。",
      "第二步是去掉没有用的东西。",
      "时间久了，{t}就成了习惯。",
      "也有人不这么看，这很正常。",
      "一个小例子胜过长篇的解释。",
      "最后要看{t}是不是真的帮到了人。",
    ],
    topic: /(?:关于|有关|以)([\p{L}\p{N}]{1,20}?)(?:的|为|写|$|[,。])/u,
    nameless: "这件事",
  },
};

const sketchOf = (language: Language): Sketch =>
  language === "de" || language === "zh" ? sketches[language] : sketches.en;

/** A paragraph that names its topic; with "N words" about that long. */
export function draftAbout(request: string, language: Language, rng: Rng): string {
  const sketch = sketchOf(language);
  const topic =
    sketch.topic
      .exec(request)?.[1]
      ?.replace(/\s+(?:in|with|using|mit)\s.*$/i, "")
      .trim() ?? sketch.nameless;
  const wordsWanted = Math.min(2000, Number(/(\d{2,5})\s*(?:words|wörter|字)/i.exec(request)?.[1] ?? 60));
  const pieces = [sketch.opening];
  const first = drawInteger(rng, 0, sketch.sentences.length - 1);
  let words = 0;
  for (let index = 0; words < wordsWanted; index++) {
    const sentence = filled(sketch.sentences[(first + index) % sketch.sentences.length] ?? "", topic);
    words += language === "zh" ? sentence.length : sentence.split(" ").length;
    pieces.push(sentence);
  }
  return pieces.join(language === "zh" ? "" : " ");
}

/** Two to five seeded sentences about nothing. */
export function randomText(language: Language, rng: Rng): string {
  const { sentences, nameless } = sketchOf(language);
  return Array.from({ length: drawInteger(rng, 2, 5) }, () => filled(drawOne(rng, sentences), nameless)).join(
    language === "zh" ? "" : " ",
  );
}

const filled = (sentence: string, topic: string): string =>
  sentence.replaceAll("{t}", topic).replaceAll(
    "{T}",
    topic.replace(/^./u, (letter) => letter.toUpperCase()),
  );
