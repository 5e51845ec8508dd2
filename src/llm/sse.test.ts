import { expect, test } from "bun:test";
import fc from "fast-check";
import { EVENT_BYTES_MAX, SseSplitter } from "./sse.ts";

const encoder = new TextEncoder();

/** What comes out when `text` arrives in pieces that end at `cuts`. */
function split(text: string, cuts: readonly number[]): { bytes: string; data: string[] } {
  const splitter = new SseSplitter();
  const all = encoder.encode(text);
  const ends = [...new Set(cuts.map((cut) => cut % (all.length + 1)))].sort((a, b) => a - b);
  const found = { bytes: "", data: [] as string[] };
  let from = 0;
  for (const end of [...ends, all.length]) {
    const piece = all.slice(from, end);
    for (const { bytes, data } of splitter.push(piece)) {
      found.bytes += Buffer.from(bytes).toString();
      found.data.push(Buffer.from(data).toString());
    }
    piece.fill(0); // what was given out of it has been taken by now
    from = end;
  }
  for (const { data } of splitter.end()) found.data.push(Buffer.from(data).toString());
  return found;
}

const line = fc.string({ unit: "binary", minLength: 1, maxLength: 30 }).map((text) => text.replace(/[\r\n]/g, "·"));
const event = fc.record({
  data: fc.array(line, { minLength: 1, maxLength: 3 }),
  comment: fc.option(line),
  id: fc.boolean(),
  crlf: fc.boolean(),
  space: fc.boolean(),
});
const cuts = fc.array(fc.nat(5_000), { maxLength: 40 });

test("events come out the same, wherever the network cut them", () => {
  fc.assert(
    fc.property(fc.array(event, { maxLength: 12 }), cuts, (events, places) => {
      const text = events
        .map(({ data, comment, id, crlf, space }) => {
          const lines = [
            ...(comment === null ? [] : [`: ${comment}`]),
            ...(id ? ["id: 7"] : []),
            ...data.map((value) => `data:${space ? " " : ""}${value}`),
          ];
          const end = crlf ? "\r\n" : "\n";
          return lines.join(end) + end + end;
        })
        .join("");
      // A space after the colon is no part of the value.
      const values = events.map(({ data, space }) =>
        data.map((value) => (space || value[0] !== " " ? value : value.slice(1))),
      );
      const expected = values.map((lines) => lines.join("\n")).filter((data) => data !== "");
      const found = split(text, places);
      expect(found.data).toEqual(expected);
      expect(found.bytes).toBe(
        expected
          .map(
            (data) =>
              `${data
                .split("\n")
                .map((value) => `data: ${value}\n`)
                .join("")}\n`,
          )
          .join(""),
      );
    }),
    { numRuns: 300 },
  );
});

test.each([
  ["comments, other fields and empty data are no events", ": hi\n\nevent: x\nid: 1\n\ndata:\n\ndata: \n\n\n\n", []],
  ["a byte order mark is skipped", "\uFEFFdata: a\n\n", ["a"]],
  ["the last event may lack its empty line", "data: a\n\ndata: [DONE]", ["a", "[DONE]"]],
  ["a longer field name is another field", "database: a\n\ndata\ndata: b\n\n", ["\nb"]],
])("%s", (_, text, data) => {
  expect(split(text, []).data).toEqual(data);
  expect(split(text, [1, 2, 3, 5, 8, 13]).data).toEqual(data);
});

test("an event that never ends is refused, at its limit and not at the end of memory", () => {
  const splitter = new SseSplitter();
  const chunk = new Uint8Array(64 * 1024).fill(97);
  const feed = (): void => {
    for (let sent = 0; sent <= 2 * EVENT_BYTES_MAX; sent += chunk.length) splitter.push(chunk);
  };
  expect(feed).toThrow("too large an event");
});
