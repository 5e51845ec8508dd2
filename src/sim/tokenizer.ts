// The simulator's tokens: words, numbers, spaces and signs in pieces of at most six bytes, about four characters of
// English each. Everything that counts or streams tokens uses it. The pieces of a text, joined, are exactly the text,
// and an id holds its piece, so that no vocabulary is needed. Pure.

/** Of UTF-8. Six fit, behind a leading 1, into an integer that JSON carries exactly. */
const PIECE_BYTES_MAX = 6;

// As GPT's: a word with the space before it; of a run of spaces the last one belongs to the word that follows.
const WORDS = / ?\p{L}+| ?\p{N}+|\s+(?!\S)|\s+| ?[^\s\p{L}\p{N}]+/gu;
// biome-ignore lint/suspicious/noControlCharactersInRegex: ASCII begins with them
const SHORT_ASCII = /^[\x00-\x7f]{0,6}$/;

/** The pieces of a text; none for the empty text. */
export function tokenize(text: string): string[] {
  const pieces: string[] = [];
  for (const word of text.match(WORDS) ?? []) {
    if (SHORT_ASCII.test(word)) pieces.push(word);
    else cutWord(word, pieces);
  }
  return pieces;
}

function cutWord(word: string, pieces: string[]): void {
  let piece = "";
  let bytes = 0;
  for (const character of word) {
    const size = bytesOf(character.codePointAt(0) ?? 0);
    if (bytes + size > PIECE_BYTES_MAX) {
      pieces.push(piece);
      piece = "";
      bytes = 0;
    }
    piece += character;
    bytes += size;
  }
  pieces.push(piece);
}

const bytesOf = (codePoint: number): number =>
  codePoint < 0x80 ? 1 : codePoint < 0x800 ? 2 : codePoint < 0x10000 ? 3 : 4;

/** What no text has, as pieces of text are shorter: the marks of a conversation, each by the id that is its place here. */
const specialPieces = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|media|>"] as const;
const MEDIA_ID = specialPieces.indexOf("<|media|>");

/**
 * The id of a piece: its bytes behind a leading 1, so from 256 up to 2^49. Half a surrogate pair has bytes too. Special
 * pieces are below 256; those of pictures and sounds, which differ from one to the next, share an id.
 */
export function idOf(piece: string): number {
  if (piece.length > PIECE_BYTES_MAX) {
    const special = specialPieces.indexOf(piece as (typeof specialPieces)[number]);
    return special < 0 ? MEDIA_ID : special;
  }
  let id = 1;
  for (const character of piece) {
    const codePoint = character.codePointAt(0) ?? 0;
    const size = bytesOf(codePoint);
    const lead = [0, 0, 0xc0, 0xe0, 0xf0][size] ?? 0;
    for (let at = size - 1; at >= 0; at--) {
      const bits = at === size - 1 ? lead | (codePoint >> (6 * at)) : 0x80 | ((codePoint >> (6 * at)) & 0x3f);
      id = id * 256 + bits;
    }
  }
  return id;
}

/** The text of ids; an id that no piece has, as those of other tokenizers, is U+FFFD. */
export const detokenize = (ids: readonly number[]): string => ids.map(pieceOf).join("");

/** The piece of an id; never empty. */
export function pieceOf(id: number): string {
  const special = specialPieces[id];
  if (special !== undefined) return special;
  const bytes: number[] = [];
  for (let rest = id; rest > 1; rest = Math.floor(rest / 256)) {
    if (rest < 256 || bytes.length > PIECE_BYTES_MAX) return "\ufffd";
    bytes.unshift(rest % 256);
  }
  const piece = decode(bytes);
  return piece !== "" && idOf(piece) === id ? piece : "\ufffd";
}

/** UTF-8 by hand: TextDecoder has no halves of surrogate pairs. */
function decode(bytes: readonly number[]): string {
  let text = "";
  for (let at = 0; at < bytes.length; ) {
    const first = bytes[at] ?? 0;
    const size = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    let codePoint = size === 1 ? first : first & (0xff >> (size + 1));
    for (let next = 1; next < size; next++) codePoint = (codePoint << 6) | ((bytes[at + next] ?? 0) & 0x3f);
    text += codePoint <= 0x10ffff ? String.fromCodePoint(codePoint) : "\ufffd";
    at += size;
  }
  return text;
}
