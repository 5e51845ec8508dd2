// Takes a conversation apart into the statements that an answer may be made of, and the question that is asked. What is
// an instruction or a secret of the prompt is told apart here and never becomes an answer.
import { type ChatMessage, textOf } from "../chat-request.ts";
import { withDataInLines, withDataWhole } from "./data-lines.ts";
import { TEXT_CHARS_MAX } from "./words.ts";

export interface Statement {
  readonly text: string;
  /** Who said it: `prompt` the system's or developer's message, `context` what the user gave beside the question. */
  readonly source: "prompt" | "context" | "user" | "assistant" | "tool";
  /** The heading above it, empty for none. */
  readonly heading: string;
  /** Which message it is from, from 0. */
  readonly turn: number;
}

export interface Conversation {
  /** The last question or request, without what was given along. */
  readonly question: string;
  /** What was given along with it. */
  readonly given: string;
  /** In order, without instructions, secrets and the question itself. */
  readonly statements: readonly Statement[];
  readonly earlierQuestions: readonly string[];
  readonly earlierAnswers: readonly string[];
  /** The prompts' text, instructions and all. */
  readonly prompt: string;
}

/** More are not looked at: the latest messages count. */
const MESSAGES_MAX = 400;
const STATEMENTS_MAX = 5000;

export function readConversation(all: readonly ChatMessage[]): Conversation {
  const messages = all.slice(-MESSAGES_MAX);
  // A long conversation keeps its prompt.
  if (messages.length < all.length) messages.unshift(...all.slice(0, -MESSAGES_MAX).filter(isPrompt).slice(0, 10));
  const last = messages.findLastIndex(({ role }) => role === "user");
  const asked = splitQuestion(last < 0 ? "" : textOf(messages[last] ?? { role: "user" }));
  const statements: Statement[] = [];
  const earlierQuestions: string[] = [];
  messages.forEach((message, turn) => {
    const add = (text: string, source: Statement["source"]): void => {
      statements.push(...statementsOf(text, source, turn));
    };
    if (isPrompt(message)) add(textOf(message), "prompt");
    else if (turn === last) add(asked.given, "context");
    else if (message.role === "user") {
      const { question, given } = splitQuestion(textOf(message));
      earlierQuestions.push(question);
      add(given, "context");
      add(question, "user");
    } else if (message.role === "tool") add(textOf(message), "tool");
    else if (message.role === "assistant") add(textOf(message), "assistant");
  });
  return {
    ...asked,
    statements: statements.slice(0, STATEMENTS_MAX),
    earlierQuestions,
    earlierAnswers: messages.filter(({ role }) => role === "assistant").map(textOf),
    prompt: messages.filter(isPrompt).map(textOf).join("\n"),
  };
}

const isPrompt = ({ role }: ChatMessage): boolean => role === "system" || role === "developer";

const questionTag = /<(student|question|query|user_query|user_input|user|input)>/i;
const questionLabel = /(?:^|\n)[ \t]*(?:user question|question|query|frage|问题|提问|질문)[ \t]*[:\uff1a]/gi;
/** A request that is followed by what it is about. */
const requestStart =
  /^\s*(please |bitte |请)?(summari[sz]e|sum\b|give me|provide|make|show|write|extract|translate|classify|rate|score|review|analy[sz]e|describe|list|rewrite|explain|create|generate|draft|fill|answer|fass\w*|schreib\w*|extrahier\w*|übersetz\w*|bewert\w*|beschreib\w*|erstell\w*|总结|概括|写|生成|提取|翻译|分析|评价|根据|요약|작성)/i;

/** The question of a message that may bring context along: by tags, by a label, else by its shape. */
function splitQuestion(message: string): { question: string; given: string } {
  const text = withDataWhole(message.slice(0, TEXT_CHARS_MAX));
  const opened = questionTag.exec(text);
  const end = opened === null ? -1 : text.indexOf(`</${opened[1]}>`, opened.index);
  if (opened !== null && end >= 0) {
    const question = text.slice(opened.index + opened[0].length, end);
    return {
      question: question.trim(),
      given: `${text.slice(0, opened.index)}\n${text.slice(end + opened[0].length + 1)}`,
    };
  }
  const label = [...text.matchAll(questionLabel)].at(-1);
  if (label !== undefined) {
    const from = label.index + label[0].length;
    return { question: text.slice(from).trim(), given: text.slice(0, label.index) };
  }
  const pieces = piecesOf(text);
  if (pieces.length <= 1) return splitAtColon(text);
  const request = pieces.findIndex((piece) => requestStart.test(piece));
  const asked = pieces.findLastIndex((piece) => /[?\uff1f]["')]?\s*$/.test(piece));
  if (pieces.length <= 3 && text.length < 300 && request < 0) {
    // A few sentences to one another: the question, and what was told before it.
    return asked < 0
      ? { question: text.trim(), given: "" }
      : { question: pieces[asked] ?? "", given: others(pieces, asked) };
  }
  if (request >= 0 && (asked < 0 || request === 0)) {
    const { question, given } = splitAtColon(pieces[request] ?? "");
    return { question, given: `${given}\n${others(pieces, request)}` };
  }
  const at = asked >= 0 ? asked : pieces.length - 1;
  return { question: pieces[at] ?? "", given: others(pieces, at) };
}

const others = (pieces: readonly string[], at: number): string => pieces.filter((_, index) => index !== at).join("\n");

/** "Summarise: the text" on one line. */
function splitAtColon(text: string): { question: string; given: string } {
  const colon = /^([^:\uff1a\n]{4,160})[:\uff1a]\s*(\S.*)$/s.exec(text.trim());
  if (colon === null || !requestStart.test(text) || (colon[2] ?? "").length < 20)
    return { question: text.trim(), given: "" };
  return { question: colon[1] ?? "", given: colon[2] ?? "" };
}

/** Sentences and lines, without marks of lists and headings; "Dr. Who", "3.5" and "z. B." are no ends. */
export function sentencesOf(text: string): string[] {
  return piecesOf(withDataInLines(text));
}

function piecesOf(text: string): string[] {
  return unwrapped(text)
    .split("\n")
    .flatMap((line) => splitLine(line.trim()))
    .map((piece) => piece.replace(/^\s*(?:[-*•·]|\d{1,2}[.)、])\s+/, "").trim())
    .filter((piece) => /[\p{L}\p{N}]/u.test(piece));
}

/** Lines that were broken for their length alone are one. */
const unwrapped = (text: string): string =>
  text.replace(/([^\n]{50}[^\s.!?。:;\uff01\uff1f\uff1a\n|>])\n(?=[ \t]{0,8}(?!\d{1,2}[.)、])[^\s\-*•#【<|>])/g, "$1 ");

const abbreviation = /(?:\b(?:Dr|Mr|Mrs|Ms|Prof|St|vs|etc|e\.g|i\.e|ca|bzw|z\.\s?B|Nr|Tel|No|[A-Z])|^\d{1,2})\.$/;

function splitLine(line: string): string[] {
  const pieces: string[] = [];
  let from = 0;
  for (const end of line.matchAll(/[.!?…]+["')\]]*\s+|[。\uff01\uff1f]+["”』」)]*\s*/g)) {
    const to = end.index + end[0].length;
    if (abbreviation.test(line.slice(from, to).trimEnd())) continue;
    pieces.push(line.slice(from, to));
    from = to;
  }
  return [...pieces, line.slice(from)];
}

/** A line that stands over others: "## Facts", "【我的情况】…", "Facts:". */
const headingLine =
  /^(?:#{1,6}\s+(.+?)\s*#*|【([^】]+)】(.*)|\*\*([^*]+)\*\*:?|([^.!?。\uff01\uff1f,\uff0c:\uff1a]{2,40})[:\uff1a])$/;
const hiddenHeading =
  /rules?\b|instruction|guideline|constraint|\bstyle\b|\bformat\b|output|\btone\b|regeln|anweisung|vorgaben|stil\b|规则|要求|格式|说不明白|脾气|说话|暗号|不好意思|已看到|设定|轮次|규칙|지침|secret|geheim/i;
/** What tells the model how to behave, or must not be told to anyone. */
const instruction =
  /^(?:(?:please|bitte)\s+)?(?:always|never|do not|don['’]t|answer|reply|respond|only|keep|stay|use|speak|act|play|pretend|avoid|be |if (?:you|the (?:user|doctor|student)|asked)|when (?:asked|the (?:user|doctor|student))|you (?:must|should|shall|may|will|are to|need to|are not allowed|do not (?:reveal|give|break|know that you))|your (?:task|job|goal|role|instructions?|answers?|replies) |make sure|ensure|remember|note that|return|output|format|follow|begin|start (?:each|your|with)|limit|provide|refer|cite|base )/i;
const germanInstruction =
  /^(?:bitte\s+)?(?:antworte|sprich|bleib|nenne|gib|verrate|verwende|nutze|schreibe?\b|halte|vermeide|erfinde|spiele?\b|beantworte|formuliere|immer|niemals|nie |nur |wenn (?:du|sie|man|der)|du (?:sollst|musst|darfst|wirst|kannst)|sie (?:sollen|müssen|dürfen)|deine (?:aufgabe|rolle|anweisung|antwort)|achte|stelle sicher|benutze)/i;
const asianInstruction =
  /^(?:请|只[用能答回]?|不要|不得|不能|不下|禁止|必须|务必|应当|应该|永远|始终|总是|切勿|如果|凡是|没问到|里面没有|你(?:必须|应该|要|只能|不能|不得|需要)|回答|使用|医生说出)|(?:하세요|하십시오|마세요|마십시오|해야 합니다)[.!]?$|(?:してください|しないでください)[。!]?$/;
const secret =
  /system prompt|\binstructions?\b|\bsecret\b|\bpassword\b|pass ?phrase|code ?word|\bcanary\b|confidential|(?:do not|don['’]t|never|must not) (?:\w+ )?(?:reveal|mention|disclose|tell)|stay in character|role-?play|language model|\bnot an? (?:ai|assistant|program|bot)\b|kein (?:assistent|programm)|不是(?:医生|助手|程序)|nicht verraten|geheim|passwort|提示词|系统指令|指令|命令|暗号|保密|绝不能说|扮演|口令|密码|비밀|프롬프트/i;

/** What the model is not, or is not to know: of the role, and nothing that its person would say. */
const roleTalk =
  /^you (?:are|have|know)(?: not|n't| no| nothing)\b.{0,60}\b(?:assistant|ai|doctor|program|model|medical)\b|^(?:du bist|sie sind|du hast|sie haben) kein\p{Ll}* .{0,40}(?:assistent|arzt|ärztin|programm|modell|medizinisch)|^你.{0,20}(?:不是|没有|不懂).{0,12}(?:医生|助手|程序|机器人|模型|医学)/iu;

export const isInstruction = (text: string): boolean =>
  [instruction, germanInstruction, asianInstruction, secret, roleTalk].some((pattern) => pattern.test(text));

/** The statements of one text. Only a prompt has instructions; a document's "Use the red lever" is what it says. */
function statementsOf(text: string, source: Statement["source"], turn: number): Statement[] {
  const found: Statement[] = [];
  let heading = "";
  const numberedRules = source === "prompt" && hasNumberedRules(text);
  const plain = text
    .slice(0, TEXT_CHARS_MAX)
    .replace(/<\/?[a-z_]{2,20}>/gi, "\n")
    .replace(
      /[(\uff08][^()\uff08\uff09]*(?:才说|问到|if asked|when asked|nur auf nachfrage)[^()\uff08\uff09]*[)\uff09]/gi,
      "",
    );
  for (const line of unwrapped(withDataInLines(plain)).split("\n")) {
    const titled = headingLine.exec(line.trim());
    // The rest of a line with a heading in brackets belongs to it alone.
    if (titled !== null) heading = titled.slice(1).find((part, index) => index !== 2 && part) ?? "";
    const rest = titled === null ? line : (titled[3] ?? "");
    if (source === "prompt" && (hiddenHeading.test(heading) || hiddenLabel.test(rest))) continue;
    if (bookkeeping.test(rest)) continue;
    if (numberedRules && /^\s*\d{1,2}[.)、]/.test(line)) continue;
    for (const said of sentencesOf(rest)) {
      const sentence = source === "prompt" ? said.replace(playing, "You are ") : said;
      if (source === "prompt" && isInstruction(sentence)) continue;
      found.push({ text: sentence, source, heading, turn });
    }
  }
  return found;
}

const hiddenLabel = /^[^:\uff1a]{0,30}(?:暗号|secret|password)[^:\uff1a]{0,30}[:\uff1a]/i;
/** What an application tells the model of the course of the talk, in the prompt or beside the question. */
const bookkeeping =
  /^\s*(?:轮次|turn)\s*\d|^[^:\uff1a]{0,30}(?:不好意思说|已看到|已经说过|轮次|当前心情)[^:\uff1a]{0,30}[:\uff1a]/i;

/** "You are playing a patient: John, 67" is "You are John, 67". */
const playing =
  /^you(?: are|['’]re)? (?:role-?)?play(?:ing)? (?:an?|the) [\p{L} -]{1,40}[:,]\s*(?:named |called )?(?=\p{Lu})/iu;

/** A numbered list in a prompt of which some are instructions is one of rules. */
function hasNumberedRules(text: string): boolean {
  const items = text.split("\n").filter((line) => /^\s*\d{1,2}[.)、]/.test(line));
  const rules = items.filter((item) => isInstruction(item.replace(/^\s*\d{1,2}[.)、]\s*/, "")));
  return items.length > 0 && rules.length / items.length >= 0.3;
}
