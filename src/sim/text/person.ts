// Turns what a prompt says of "you" into what "I" say, and what a user said of "I" into what is said of "you". Pure
// rewriting by words, in English, German and Chinese; other languages are left as they are.

/** "You have had pain since Monday" → "I have had pain since Monday". */
export function toFirstPerson(sentence: string): string {
  if (/[\p{Script=Han}]/u.test(sentence)) return sentence.replace(/您|你/g, "我");
  if (/당신/.test(sentence))
    return sentence.replaceAll("당신은", "저는").replaceAll("당신의", "제").replaceAll("당신이", "제가");
  if (germanYou.test(sentence)) return capitalised(germanToFirst(sentence));
  if (germanFormal.test(sentence)) return capitalised(formalToFirst(sentence));
  return capitalised(englishToFirst(sentence));
}

/** "The patient takes aspirin" → "I take aspirin", for a prompt that describes whom the model plays. */
export function describedToFirst(sentence: string): string {
  const asian = sentence.replace(/^(?:患者|病人|该患者|他|她)(?=.)/, "我");
  if (asian !== sentence) return asian;
  const told = /^(?:the patient|patient|she|he)\s+(\w+)/i.exec(sentence);
  if (told === null) return toFirstPerson(sentence.replace(/^(?:his|her|the patient's)\b/i, "My"));
  const rest = sentence
    .slice(told[0].length)
    .replace(laterVerb, (_all, joint: string, verb: string) => `${joint} ${firstPersonVerb(verb)}`)
    .replace(/\b(?:her|his)\b/gi, "my")
    .replace(/\b(?:she|he) is\b/gi, "I am");
  return `I ${firstPersonVerb(told[1] ?? "")}${rest.replace(/\b(?:she|he)\b/gi, "I")}`;
}

/** "She has asthma and takes a spray": verbs without a pronoun of their own; "fever and chills" are none. */
const laterVerb =
  /\b(and|but|or) (is|was|has|does|goes|takes|smokes|drinks|lives|works|sleeps|feels|suffers|wants)\b/gi;

function firstPersonVerb(verb: string): string {
  const irregular: Readonly<Record<string, string>> = { is: "am", has: "have", does: "do", goes: "go", was: "was" };
  const known = Object.hasOwn(irregular, verb) ? irregular[verb] : undefined;
  if (known !== undefined) return known;
  return /[^s]s$/.test(verb)
    ? verb
        .replace(/ies$/, "y")
        .replace(/(ch|sh|ss|x)es$/, "$1")
        .replace(/s$/, "")
    : verb;
}

/** "My name is Bob" → "Your name is Bob": for what the user told of themselves. */
export function toSecondPerson(sentence: string): string {
  if (/[\p{Script=Han}]/u.test(sentence)) return sentence.replace(/我/g, "您");
  return capitalised(germanI.test(sentence) ? germanToSecond(sentence) : englishToSecond(sentence));
}

/** A question about the one who is asked, or about the one who asks, in the words of the other's statements. */
const germanYou = /\b(du|dir|dich|deine?[mnrs]?)\b/i;
/** "Sie haben …", "Ihr Knie …": whom a prompt addresses so; "Sie hat …" is somebody else. */
const germanFormal =
  /^(?:Sie (?:sind|\p{Ll}+en)|Ihr(?:e[mnrs]?)? \p{L}+|(?!Ich )\p{Lu}\p{L}* .{0,60}\b(?:sind|\p{Ll}+en) Sie)(?!\p{L})|\bIhnen\b/u;
const germanI = /\b(ich|mir|mich|meine?[mnrs]?)\b/i;

const capitalised = (text: string): string => text.replace(/^[^\p{L}]*\p{Ll}/u, (head) => head.toUpperCase());

const replacer =
  (words: Readonly<Record<string, string>>) =>
  (text: string): string =>
    text.replace(/[\p{L}]+(?:['’]\p{L}+)?/gu, (word) => {
      const key = word.toLowerCase().replace("’", "'");
      const found = Object.hasOwn(words, key) ? (words[key] ?? word) : word;
      return word !== "I" && word[0] !== word[0]?.toLowerCase() && found !== word
        ? found.replace(/^./u, (letter) => letter.toUpperCase())
        : found;
    });

const englishWords = replacer({
  "you're": "I'm",
  "you've": "I've",
  "you'd": "I'd",
  "you'll": "I'll",
  your: "my",
  yours: "mine",
  yourself: "myself",
});

/** What stands before an object: "to you", "hurts you". */
const beforeObject =
  /\b(to|for|with|by|of|from|at|on|about|near|around|give|gives|gave|tell|tells|told|make|makes|made|help|helps|helped|hurt|hurts|wakes?|woke|bothers?|worries|scares|keeps?|kept|let|lets|see|sees|saw|call|calls|called|sent|sends|brought|took|ask|asks|asked)\s+$/i;

function englishToFirst(sentence: string): string {
  const withVerbs = sentence
    .replace(/\byou are\b/gi, "I am")
    .replace(/\byou were\b/gi, "I was")
    .replace(/\bare you\b/gi, "am I")
    .replace(/\bwere you\b/gi, "was I");
  const withSubjects = withVerbs.replace(/\byou\b(?!['’])/gi, (_you, at: number) => {
    const before = withVerbs.slice(0, at);
    const after = withVerbs.slice(at + 3);
    const ends = /^\s*([.,;:!?)]|$)|^ (to|for|from|with|at|on|up|down|about|every|the)\b/i.test(after);
    const mayBeObject = !/(^|[,;:]|\b(and|but|that|when|if|because|since|while|as|which|or))\s*$/i.test(before);
    return beforeObject.test(before) || (ends && mayBeObject) ? "me" : "I";
  });
  return englishWords(withSubjects);
}

const englishToSecond = (sentence: string): string =>
  replacer({
    i: "you",
    me: "you",
    my: "your",
    mine: "yours",
    myself: "yourself",
    "i'm": "you're",
    "i've": "you've",
    "i'd": "you'd",
    "i'll": "you'll",
  })(
    sentence
      .replace(/\bI am\b/g, "you are")
      .replace(/\bI was\b/g, "you were")
      .replace(/\bam I\b/g, "are you"),
  );

/** "du" with its verb; verbs that change their vowel are few and common. */
const germanVerbs: Readonly<Record<string, string>> = {
  bist: "bin",
  hast: "habe",
  warst: "war",
  hattest: "hatte",
  wirst: "werde",
  wurdest: "wurde",
  kannst: "kann",
  willst: "will",
  musst: "muss",
  darfst: "darf",
  sollst: "soll",
  magst: "mag",
  möchtest: "möchte",
  weißt: "weiß",
  heißt: "heiße",
  nimmst: "nehme",
  isst: "esse",
  schläfst: "schlafe",
  fährst: "fahre",
  läufst: "laufe",
  siehst: "sehe",
  sprichst: "spreche",
  hilfst: "helfe",
  gibst: "gebe",
  trägst: "trage",
  hältst: "halte",
  wirkst: "wirke",
};
const germanPronouns = replacer({
  du: "ich",
  dir: "mir",
  dich: "mich",
  dein: "mein",
  deine: "meine",
  deinen: "meinen",
  deinem: "meinem",
  deiner: "meiner",
  deines: "meines",
});

/** "verträgst" goes as "trägst" does. */
function irregular(word: string): string | undefined {
  const own = germanVerbs[word];
  if (own !== undefined) return own;
  const [ending, verb] = Object.entries(germanVerbs).find(([one]) => one.length > 5 && word.endsWith(one)) ?? [];
  return ending === undefined ? undefined : `${word.slice(0, -ending.length)}${verb}`;
}

/** "Sie" with its verb: the first person is without the n, but for the irregular ones. */
const formalVerbs: Readonly<Record<string, string>> = {
  sind: "bin",
  waren: "war",
  wurden: "wurde",
  können: "kann",
  wollen: "will",
  müssen: "muss",
  dürfen: "darf",
  sollen: "soll",
  mögen: "mag",
  wissen: "weiß",
};
/** With a capital: "sie" is she or they. */
const formalPronouns: Readonly<Record<string, string>> = { Sie: "ich", Ihnen: "mir", sich: "mich" };

function formalToFirst(sentence: string): string {
  const verb = (word: string): string => formalVerbs[word] ?? word.replace(/n$/, "");
  return (
    sentence
      .replace(/\bSie (sind|\p{Ll}+en)(?!\p{L})/gu, (_all, word: string) => `Sie ${verb(word)}`)
      .replace(/(?<!\p{L})(sind|\p{Ll}+en) Sie\b/gu, (_all, word: string) => `${verb(word)} Sie`)
      // "Sie haben Fieber und nehmen Tabletten"
      .replace(
        /(\bund|\boder|\baber|,) (sind|haben|waren|hatten|nehmen|rauchen|trinken|leiden|wohnen|arbeiten)\b/g,
        (_all, joint: string, word: string) => `${joint} ${verb(word)}`,
      )
      .replace(/\b(?:Sie|Ihnen|sich)\b/g, (word) => formalPronouns[word] ?? word)
      .replace(/\bIhr(e[mnrs]?)?\b/g, (_all, ending: string | undefined) => `mein${ending ?? ""}`)
  );
}

function germanToFirst(sentence: string): string {
  const verb = (word: string): string => {
    const known = irregular(word.toLowerCase());
    if (known !== undefined)
      return word[0] === word[0]?.toLowerCase() ? known : known.replace(/^./u, (letter) => letter.toUpperCase());
    return /[^s]st$/.test(word)
      ? `${word.replace(/(e?)st$/, "")}e`
      : /sst$|zt$|ßt$/.test(word)
        ? word.replace(/t$/, "e")
        : word;
  };
  return germanPronouns(
    sentence
      .replace(/\b([Dd]u) (\p{L}+t)\b/gu, (_all, you: string, word: string) => `${you} ${verb(word)}`)
      .replace(/\b(\p{L}+t) ([Dd]u)\b/gu, (_all, word: string, you: string) => `${verb(word)} ${you}`)
      // "Du hast Fieber und nimmst Tabletten": the second verb has no pronoun of its own.
      .replace(/\b(und|,|oder|aber) (\p{Ll}+st)\b/gu, (_all, joint: string, word: string) => `${joint} ${verb(word)}`),
  );
}

const germanToSecond = (sentence: string): string =>
  replacer({
    ich: "Sie",
    mir: "Ihnen",
    mich: "sich",
    mein: "Ihr",
    meine: "Ihre",
    meinen: "Ihren",
    meinem: "Ihrem",
    meiner: "Ihrer",
    meines: "Ihres",
  })(
    sentence
      .replace(
        /\b([Ii]ch) (bin|war|habe|hatte|heiße|\p{Ll}+e)\b/gu,
        (_all, i: string, word: string) => `${i} ${formal[word] ?? `${word}n`}`,
      )
      .replace(
        /\b(bin|war|habe|hatte|heiße) (ich)\b/gu,
        (_all, word: string, i: string) => `${formal[word] ?? word} ${i}`,
      ),
  );
const formal: Readonly<Record<string, string>> = {
  bin: "sind",
  war: "waren",
  habe: "haben",
  hatte: "hatten",
  heiße: "heißen",
};
