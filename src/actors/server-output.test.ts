import { expect, test } from "bun:test";
import { systemClock } from "../clock.ts";
import { silentLog } from "../log.ts";
import { logLines } from "./server-output.ts";

/** What is logged of `pieces`, which come a minute apart by the clock. */
async function logged(...pieces: readonly string[]): Promise<[object, string][]> {
  const lines: [object, string][] = [];
  const tell = (fields: object, message: string): void => void lines.push([fields, message]);
  let nowMs = 0;
  const stream = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        const piece = pieces[nowMs / 60_000];
        nowMs += 60_000;
        if (piece === undefined) controller.close();
        else controller.enqueue(Buffer.from(piece));
      },
    },
    { highWaterMark: 0 },
  );
  await logLines(stream, { ...silentLog, info: tell, warn: tell }, { ...systemClock, monotonicMs: () => nowMs });
  return lines;
}

test("a log line for each line, wherever the pipe cut it; long ones are cut, empty ones left out", async () => {
  const said = (await logged("one\ntw", "o\r\n\n", `${"x".repeat(5_000)}\nlast`)).map(([, text]) => text);
  expect(said).toEqual(["one", "two", "x".repeat(2_000), "last"]);
});

test("a server that floods its output fills no log, and what is left out is told", async () => {
  const said = await logged("again\n".repeat(100_000), "later\n");
  expect(said).toHaveLength(202);
  expect(said.filter(([, text]) => text === "again")).toHaveLength(200);
  expect(said.at(-2)?.[0]).toEqual({ from: "model server", lines: 99_800 });
  expect(said.at(-1)?.[1]).toBe("later");
});
