import { expect, test } from "bun:test";
import { createRng } from "../rng.ts";
import { patternOfGrammar } from "./grammar.ts";
import { PatternError, parsePattern } from "./pattern.ts";

const sql = `# a query
root ::= select_statement
select_statement ::= "SELECT " column " from " table (" where " condition)?
column ::= "col_1" | "col_2"
table ::= "table_" [1-3]
condition ::= column " = " number
number ::= "-"? [0-9]{1,3}
`;

test.each([
  [sql, /^SELECT col_[12] from table_[123](?: where col_[12] = -?\d{1,3})?$/],
  ['root ::= ("yes" | "no") "." # an end', /^(?:yes|no)\.$/],
  ['root ::= "a\\"b\\\\" "c.d"*\n', /^a"b\\(?:c\.d)*$/],
  ['root ::= "\\x41\\u00e9\\n" [^a-z\\]]+', /^Aé\n[^a-z\]]+$/],
  ['root ::= one\n  | two\none ::= "1"\ntwo-a ::= "2"\ntwo ::= two-a two-a', /^(?:1|22)$/],
])("what is drawn for a grammar obeys it: %s", (grammar, expected) => {
  const pattern = parsePattern(patternOfGrammar(grammar));
  for (let seed = 0; seed < 30; seed++) {
    expect(pattern.draw(createRng(`${seed}`), { min: 0, max: Number.POSITIVE_INFINITY })).toMatch(expected);
  }
});

test.each([
  ['root ::= "(" root ")" | "x"', "comes back to itself"],
  ["root ::= missing", "no rule is named missing"],
  ['start: "a"', "is no GBNF"],
  ['"a"', "begins with no rule"],
  ['other ::= "a"', "no rule is named root"],
  [
    `root ::= a0\n${Array.from({ length: 30 }, (_, at) => `a${at} ::= a${at + 1} a${at + 1}`).join("\n")}\na30 ::= "x"`,
    "too long",
  ],
])("what cannot be written out is refused: %s", (grammar, message) => {
  expect(() => patternOfGrammar(grammar)).toThrow(message);
  expect(() => patternOfGrammar(grammar)).toThrow(PatternError);
});
