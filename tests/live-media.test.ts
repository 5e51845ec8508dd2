// Live calls for sound and pictures between a gateway's caller and actors' servers, with model servers of this file's
// making: pieces and credit, tries, time limits, what is counted.
import { expect, setDefaultTimeout, test } from "bun:test";
import { pause } from "../src/clock.ts";
import { bytesOf, textOf } from "../src/llm/answer-body.ts";
import type { LlmAnswer, LlmRequest } from "../src/llm/llm.ts";
import type { LlmEndpoint } from "../src/models/llm-models.ts";
import { codeOf } from "./code-of.ts";
import { target } from "./live-calls.ts";
import { liveSuite } from "./live-suite.ts";
import { streamOf } from "./model-servers.ts";

setDefaultTimeout(20_000);

const live = liveSuite();
const { serve } = live;

/** What the gateway lets an actor send ahead of the client, and a piece more. */
const AHEAD_BYTES_MAX = 48 * 1024;

const never = new AbortController().signal;

const ask = (endpoint: LlmEndpoint, over: Partial<LlmRequest> = {}, value: object = {}): Promise<LlmAnswer> => {
  const body = { kind: "json", value: { input: "Eight words that somebody is to say here.", ...value } } as const;
  return live.ask({ endpoint, body, stream: false, ...over });
};

const events = (...values: readonly object[]): string =>
  values.map((value) => `data: ${JSON.stringify(value)}\n\n`).join("");
const streamed = (text: string): Response => new Response(text, { headers: { "content-type": "text/event-stream" } });

/** Sound in pieces; after the last one it ends, breaks off, or is silent. */
function sounding(pieces: readonly Uint8Array[], then: "end" | "cut" | "silence"): Response {
  let at = 0;
  const pull = async (controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> => {
    const piece = pieces[at++];
    if (piece) return controller.enqueue(piece);
    if (then === "silence") await new Promise(() => {});
    if (then === "end") return controller.close();
    await pause(5, never); // a reset takes along what has not left the process
    controller.error();
  };
  return new Response(new ReadableStream({ pull }, { highWaterMark: 0 }), { headers: { "content-type": "audio/wav" } });
}

test("a picture larger than a message crosses in pieces, no faster than its reader takes them", async () => {
  const b64_json = Buffer.alloc(6 * 1024 * 1024, "picture").toString("base64");
  const done = { type: "image_generation.completed", b64_json, usage: { input_tokens: 2, output_tokens: 3 } };
  await live.actor(
    "a",
    serve(() => streamed(events(done))),
  );
  const answer = await ask("images/generations", { stream: true }, { prompt: "a mill" });
  const reader = answer.body.getReader();
  const pieces = [(await reader.read()).value ?? new Uint8Array()];
  // A whole call later all that may have come is here.
  await bytesOf((await ask("images/generations", { stream: true }, { prompt: "a mill" })).body);
  for (let next = await reader.read(); next.value; next = await reader.read()) pieces.push(next.value);
  expect(Math.max(...pieces.map(({ length }) => length))).toBeLessThanOrEqual(AHEAD_BYTES_MAX);
  expect(Buffer.concat(pieces).toString() === `event: image_generation.completed\n${events(done)}`).toBeTrue();
  const { usage, outcome } = await answer.ended;
  expect([outcome, usage]).toEqual(["finished", { promptTokens: 2, completionTokens: 3, cachedTokens: 0 }]);
});

test("sound that breaks off at once is tried elsewhere; later it fails, and its text is charged", async () => {
  const bytes = Buffer.from("RIFF");
  let asked = 0;
  const base = serve(() => sounding(asked++ === 0 ? [] : [bytes], "cut"));
  await live.actor("a", base);
  const answer = await ask("audio/speech");
  expect([asked, answer.status, answer.contentType]).toEqual([2, 200, "audio/wav"]);
  const reader = answer.body.getReader();
  expect(Buffer.from((await reader.read()).value ?? []).equals(bytes)).toBeTrue();
  expect(await codeOf(reader.read())).toBe("upstream_failed");
  const { outcome, usage } = await answer.ended;
  expect(outcome).toBe("failed");
  expect(usage.promptTokens).toBeGreaterThan(8);
});

test("whoever reads no further closes the server's socket", async () => {
  const left = [Promise.withResolvers<string>(), Promise.withResolvers<string>()] as const;
  const base = serve((request) => {
    const isPicture = new URL(request.url).pathname.endsWith("images/generations");
    request.signal.addEventListener("abort", () => left[isPicture ? 0 : 1].resolve("left"));
    if (!isPicture) return sounding([Buffer.from("RIFF")], "silence");
    return streamOf({
      async pull(controller) {
        controller.enqueue(Buffer.from(events({ type: "image_generation.partial_image", b64_json: "AAAA" })));
        await new Promise(() => {});
      },
    });
  });
  await live.actor("a", base);
  for (const [index, answer] of [
    await ask("images/generations", { stream: true }, { prompt: "a mill" }),
    await ask("audio/speech"),
  ].entries()) {
    const reader = answer.body.getReader();
    await reader.read();
    await reader.cancel();
    expect(await left[index]?.promise).toBe("left");
    expect((await answer.ended).outcome).toBe("cancelled");
  }
});

test("a server may be silent until all is made, but not in the middle of sound", async () => {
  const timeouts = { firstTokenMs: 20, betweenTokensMs: 100 };
  const late = serve(async () => {
    await pause(80, never); // longer than a stream of tokens may think
    return Response.json({ text: "words" });
  });
  await live.actor("late", late, { timeouts });
  const file = { name: "a.wav", contentType: "audio/wav", bytes: Buffer.from("RIFF") };
  const body = { kind: "form", fields: [], file } as const;
  const transcript = await ask("audio/transcriptions", { stream: true, body });
  expect(await textOf(transcript.body)).toContain('"transcript.text.done"');
  await live.reset();
  await live.actor(
    "silent",
    serve(() => sounding([Buffer.from("RIFF")], "silence")),
    { timeouts },
  );
  const reader = (await ask("audio/speech")).body.getReader();
  await reader.read();
  expect(await codeOf(reader.read())).toBe("upstream_timeout");
});

/** Events in these pieces, with as much time between them. */
const slowly = (pieces: readonly string[], gapMs: number): Response => {
  let at = 0;
  return streamOf({
    async pull(controller) {
      const piece = pieces[at++];
      if (piece === undefined) return controller.close();
      if (at > 1) await pause(gapMs, never);
      controller.enqueue(Buffer.from(piece));
    },
  });
};

test("a picture may take its time, and so may the parts of a large event", async () => {
  const picture = events({ type: "image_generation.completed", b64_json: "AAAA" });
  const sound = events({ type: "speech.audio.delta", audio: "AAAA" });
  const done = events({ type: "speech.audio.done", usage: { input_tokens: 1, output_tokens: 1 } });
  const base = serve((request) =>
    new URL(request.url).pathname.endsWith("speech")
      ? slowly([sound, sound.slice(0, 9), sound.slice(9, 18), sound.slice(18), done], 70)
      : slowly([events({ type: "image_generation.partial_image", b64_json: "AAAA" }), picture], 250),
  );
  await live.actor("slow", base, { timeouts: { firstTokenMs: 20, betweenTokensMs: 120 } });
  const [drawn, said] = await Promise.all([
    ask("images/generations", { stream: true }, { prompt: "a mill" }),
    ask("audio/speech", { stream: true }),
  ]);
  expect(await textOf(drawn.body)).toEndWith(picture);
  expect(await textOf(said.body)).toBe(sound + sound + done);
});

test("a form says that it wants a stream, and a vLLM is asked for the usage", async () => {
  const forms: Record<string, string>[] = [];
  const base = serve(async (request) => {
    const fields = [...(await request.formData()).entries()].filter(([name]) => name !== "file");
    forms.push(Object.fromEntries(fields) as Record<string, string>);
    return Response.json({ text: "words" });
  });
  await live.actor("a", base);
  const file = { name: "a.wav", contentType: "audio/wav", bytes: Buffer.from("RIFF") };
  const fields = [
    ["language", "de"],
    ["stream", "True"],
    ["stream_continuous_usage_stats", "true"],
  ] as const;
  const body = { kind: "form", fields, file } as const;
  for (const kind of ["vllm", "openai"] as const) {
    live.models.targets = [target({ kind, upstreamModel: "whisper" })];
    for (const stream of [true, false]) {
      await bytesOf((await ask("audio/transcriptions", { stream, body })).body);
    }
  }
  const plain = { language: "de", model: "whisper" };
  const asStream = { ...plain, stream: "true" };
  expect(forms).toEqual([{ ...asStream, stream_include_usage: "true" }, plain, asStream, plain]);
});
