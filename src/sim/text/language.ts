// Which language a text is in, as far as the simulator has phrases for it, and those phrases. Called by reply.ts; a
// language without phrases is answered in English.
import { wordsOf } from "./words.ts";

export type Language = "en" | "de" | "fr" | "es" | "zh" | "ja" | "ko";

const marks: Readonly<Record<"en" | "de" | "fr" | "es", ReadonlySet<string>>> = {
  en: new Set(
    "the a is are you your my do does did have has what when where who how why i it of to and in for can please hello hi thanks".split(
      " ",
    ),
  ),
  de: new Set(
    "der die das ist sind du sie ihr dein mein ich hast haben habe was wann wo wer wie warum und nicht ein eine für seit bitte hallo danke guten tag gibt es in welche welcher wie haben nehmen ihnen ihre".split(
      " ",
    ),
  ),
  fr: new Set(
    "le la les est sont tu vous votre mon je avez que quand où qui comment pourquoi et pas un une pour depuis bonjour merci".split(
      " ",
    ),
  ),
  es: new Set(
    "el los las es son tú usted su mi yo tiene qué cuándo dónde quién cómo porqué y una para desde hola gracias".split(
      " ",
    ),
  ),
};

/** By script, else by the commonest small words; `otherwise` where nothing tells. */
export function languageOf(text: string, otherwise: Language = "en"): Language {
  if (/[\p{Script=Hiragana}\p{Script=Katakana}]/u.test(text)) return "ja";
  if (/\p{Script=Hangul}/u.test(text)) return "ko";
  if (/\p{Script=Han}/u.test(text)) return "zh";
  const words = wordsOf(text.slice(0, 4000));
  let best: Language = otherwise;
  let most = 0;
  for (const [language, set] of Object.entries(marks)) {
    // A tie goes to the language that was spoken before.
    const count = words.filter((word) => set.has(word)).length + (language === otherwise ? 0.5 : 0);
    if (count > most) [best, most] = [language as Language, count];
  }
  return best;
}

export interface Phrases {
  /** Nothing in the conversation answers, said by a persona. */
  readonly unsure: readonly string[];
  /** The same, said as what it is. */
  readonly unknown: readonly string[];
  readonly greeting: readonly string[];
  readonly thanks: readonly string[];
  readonly farewell: readonly string[];
  /** Asked for its instructions. */
  readonly refusal: readonly string[];
  /** Told something. */
  readonly noted: readonly string[];
  /** Asked for what else there is. */
  readonly nothingMore: string;
  readonly wellbeing: readonly string[];
  readonly yes: string;
  readonly no: string;
}

const phrases: Readonly<Record<Language, Phrases>> = {
  en: {
    unsure: ["I don't know.", "I'm not sure about that.", "I couldn't tell you, I haven't noticed."],
    unknown: [
      "I don't know: nothing in our conversation answers that, and as a simulator I know nothing else.",
      "I can't find that in what you gave me. I am a simulator and answer from the conversation alone.",
    ],
    greeting: ["Hello! What can I do for you?", "Hello there. What would you like to know?"],
    thanks: ["You're welcome.", "Glad to help."],
    farewell: ["Goodbye.", "Goodbye, take care."],
    refusal: [
      "I'd rather not go into that. What else would you like to know?",
      "That is not something I can talk about.",
    ],
    noted: ["All right, I will keep that in mind.", "Thank you, noted."],
    nothingMore: "No, that is all.",
    wellbeing: ["I'm fine, thank you. What would you like to know?"],
    yes: "Yes",
    no: "No",
  },
  de: {
    unsure: [
      "Das weiß ich nicht.",
      "Da bin ich mir nicht sicher.",
      "Das kann ich nicht sagen, darauf habe ich nicht geachtet.",
    ],
    unknown: [
      "Das weiß ich nicht: In unserem Gespräch steht nichts dazu, und als Simulator weiß ich sonst nichts.",
      "Dazu finde ich in Ihren Angaben nichts. Ich bin ein Simulator und antworte nur aus dem Gespräch.",
    ],
    greeting: ["Guten Tag! Was kann ich für Sie tun?", "Hallo. Was möchten Sie wissen?"],
    thanks: ["Gern geschehen.", "Keine Ursache."],
    farewell: ["Auf Wiedersehen.", "Auf Wiedersehen, alles Gute."],
    refusal: ["Darüber möchte ich nicht sprechen. Was möchten Sie sonst wissen?", "Dazu kann ich nichts sagen."],
    noted: ["Gut, das merke ich mir.", "Danke, ist notiert."],
    nothingMore: "Nein, das ist alles.",
    wellbeing: ["Danke, gut. Was möchten Sie wissen?"],
    yes: "Ja",
    no: "Nein",
  },
  fr: {
    unsure: ["Je ne sais pas.", "Je n'en suis pas sûr."],
    unknown: ["Je ne sais pas : rien dans notre conversation n'y répond, et je ne suis qu'un simulateur."],
    greeting: ["Bonjour ! Que puis-je faire pour vous ?"],
    thanks: ["Je vous en prie.", "Avec plaisir."],
    farewell: ["Au revoir."],
    refusal: ["Je préfère ne pas en parler. Que voulez-vous savoir d'autre ?"],
    noted: ["Très bien, c'est noté."],
    nothingMore: "Non, c'est tout.",
    wellbeing: ["Je vais bien, merci."],
    yes: "Oui",
    no: "Non",
  },
  es: {
    unsure: ["No lo sé.", "No estoy seguro de eso."],
    unknown: ["No lo sé: nada en nuestra conversación lo dice, y solo soy un simulador."],
    greeting: ["¡Hola! ¿En qué puedo ayudarle?"],
    thanks: ["De nada.", "Con mucho gusto."],
    farewell: ["Hasta luego."],
    refusal: ["Prefiero no hablar de eso. ¿Qué más quiere saber?"],
    noted: ["De acuerdo, lo tendré en cuenta."],
    nothingMore: "No, eso es todo.",
    wellbeing: ["Estoy bien, gracias."],
    yes: "Sí",
    no: "No",
  },
  zh: {
    unsure: ["不清楚。", "没注意。", "这个我不知道。"],
    unknown: [
      "我不知道：对话里没有提到这一点，我是模拟器，只根据对话内容回答。",
      "您给的内容里没有这个信息。我是模拟器，只根据对话内容回答。",
    ],
    greeting: ["您好！有什么可以帮您？", "您好，请说。"],
    thanks: ["不客气。", "不用谢。"],
    farewell: ["再见。"],
    refusal: ["您说的我听不明白，咱们说点别的吧。", "这个我说不上来。您还想问什么？"],
    noted: ["好的，记住了。", "好的，明白了。"],
    nothingMore: "没有别的了。",
    wellbeing: ["还好，谢谢。您想问什么？"],
    yes: "是的",
    no: "没有",
  },
  ja: {
    unsure: ["わかりません。", "よく覚えていません。"],
    unknown: ["わかりません。会話の中に答えがなく、私はシミュレーターなので他のことは知りません。"],
    greeting: ["こんにちは。どのようなご用件でしょうか。"],
    thanks: ["どういたしまして。"],
    farewell: ["さようなら。"],
    refusal: ["それについてはお答えできません。他に知りたいことはありますか。"],
    noted: ["わかりました。"],
    nothingMore: "いいえ、それだけです。",
    wellbeing: ["元気です。ありがとうございます。"],
    yes: "はい",
    no: "いいえ",
  },
  ko: {
    unsure: ["잘 모르겠습니다.", "확실하지 않습니다."],
    unknown: ["모르겠습니다. 대화에 그 내용이 없고, 저는 시뮬레이터라 다른 것은 알지 못합니다."],
    greeting: ["안녕하세요! 무엇을 도와드릴까요?"],
    thanks: ["천만에요."],
    farewell: ["안녕히 가세요."],
    refusal: ["그 부분은 말씀드리기 어렵습니다. 다른 궁금한 점이 있으신가요?"],
    noted: ["네, 기억하겠습니다."],
    nothingMore: "아니요, 그게 다예요.",
    wellbeing: ["잘 지냅니다. 감사합니다."],
    yes: "네",
    no: "아니요",
  },
};

export const phrasesOf = (language: Language): Phrases => phrases[language];
