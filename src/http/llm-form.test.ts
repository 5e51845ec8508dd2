// The form of a transcription: what goes on to the caller, and what is refused while it arrives.
import { expect, test } from "bun:test";
import { AppError } from "../errors.ts";
import { answerOf, callerOf } from "./llm-caller-fixture.ts";
import { readForm } from "./llm-form.ts";
import { startFixture } from "./server-fixture.ts";

const path = "/v1/audio/transcriptions";

function form(fields: readonly (readonly [string, string])[], file: File | null = sound()): FormData {
  const data = new FormData();
  for (const [name, value] of fields) data.append(name, value);
  if (file) data.append("file", file);
  return data;
}
const sound = (size = 3, name = "a b.wav", type = "audio/wav"): File =>
  new File([new Uint8Array(size).fill(7)], name, { type });

test("fields in their order, those of one name too, and the sound in one piece", async () => {
  const { caller, requests } = callerOf(() => answerOf("words\n", { contentType: "text/plain; charset=utf-8" }));
  await using server = await startFixture({ llm: caller });
  const fields = [
    ["model", "org/whisper"],
    ["timestamp_granularities[]", "word"],
    ["timestamp_granularities[]", "segment"],
    ["stream", "false"],
  ] as const;
  const response = await server.send(path, { method: "POST", body: form(fields, sound(3, "ä\r\n.wav")) });
  expect([response.status, response.headers.get("content-type")]).toEqual([200, "text/plain; charset=utf-8"]);
  expect(await response.text()).toBe("words\n");
  const [request] = requests;
  expect(request).toMatchObject({
    endpoint: "audio/transcriptions",
    model: "org/whisper",
    stream: false,
    affinity: "",
  });
  if (request?.body.kind !== "form") throw new Error("no form");
  expect(request.body.fields).toEqual(fields);
  const { name, contentType, bytes } = request.body.file;
  expect([contentType, [...bytes]]).toEqual(["audio/wav", [7, 7, 7]]);
  expect(name).toMatch(/^[A-Za-z0-9._-]+\.wav$/);
});

test("without a model it is the default's to answer", async () => {
  const { caller, requests } = callerOf(() => answerOf("{}"));
  await using server = await startFixture({ llm: caller });
  const response = await server.send(path, { method: "POST", body: form([]) });
  expect([response.status, requests[0]?.model]).toEqual([200, ""]);
});

test("a stream is asked for by its field, and told when the gateway stops", async () => {
  const delta = 'data: {"type":"transcript.text.delta","delta":"words"}\n\n';
  const unended = (): ReadableStream<Uint8Array> =>
    new ReadableStream({ start: (controller) => controller.enqueue(Buffer.from(delta)) });
  const { caller, requests } = callerOf(() => answerOf(unended(), { contentType: "text/event-stream" }));
  await using server = await startFixture({ llm: caller });
  const response = await server.send(path, { method: "POST", body: form([["stream", "True"]]) });
  expect([requests[0]?.stream, response.headers.get("content-type")]).toEqual([true, "text/event-stream"]);
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let text = (await reader?.read())?.value ?? "";
  const stopping = server.http.stop(0);
  for (let next = await reader?.read(); next?.done === false; next = await reader?.read()) text += next.value;
  expect(text).toStartWith(`${delta}data: {"error":{"message":"This gateway stops`);
  expect(text).not.toContain("[DONE]");
  await stopping;
});

test("what is wrong is 400, 413 or 415 in OpenAI's form, and nobody is asked", async () => {
  const { caller, requests } = callerOf(() => answerOf("{}"));
  await using server = await startFixture({ llm: caller });
  const model = ["model", "whisper"] as const;
  const rows: readonly (readonly [number, string | null, FormData])[] = [
    [400, "model", form([["model", " "]])],
    [400, "model", form([model, model])],
    [400, "stream", form([model, ["stream", "yes"]])],
    [400, "file", form([model], sound(0))],
    [400, null, form([model], null)],
    [400, null, form(Array.from({ length: 20 }, (_, i) => [`f${i}`, "x"] as const))],
    [400, null, form([model, ["prompt", "x".repeat(5_000)]])],
    [413, null, form([model], sound(25_000_001))],
  ];
  for (const [status, param, body] of rows) {
    const response = await server.send(path, { method: "POST", body });
    const { error } = (await response.json()) as { error: { param: string | null } };
    expect([response.status, error.param]).toEqual([status, param]);
  }
  const json = await server.send(path, { method: "POST", body: "{}", headers: { "content-type": "application/json" } });
  expect(json.status).toBe(415);
  expect(requests).toEqual([]);
});

test("bytes take room before they are kept, and give it back with the answer", async () => {
  let taken = 0;
  const read = (bytesMax: number) => {
    const body = form([["model", "m"]], sound(100_000));
    const request = new Request(`http://localhost${path}`, { method: "POST", body });
    return readForm(request, (sizeBytes) => {
      taken += sizeBytes;
      if (taken > bytesMax) throw new AppError("not_ready", "full");
    });
  };
  expect((await read(100_000)).body.file.bytes.length).toBe(100_000);
  expect(taken).toBe(100_000);
  await expect(read(199_999)).rejects.toThrow("full");

  const { caller } = callerOf(() => answerOf('{"text":"words"}'));
  await using server = await startFixture({ llm: caller });
  // More than a key has room for, one after the other.
  const large = form([["model", "m"]], sound(24_000_000));
  for (let sent = 0; sent < 12; sent++) {
    expect((await server.send(path, { method: "POST", body: large })).status).toBe(200);
  }
});

test("a client that leaves in the middle of its upload leaves nothing behind", async () => {
  const part = '--b\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\nsound';
  let taken = 0;
  const leaving = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (taken > 0) controller.error(new Error("the client is gone"));
      else controller.enqueue(Buffer.from(part.concat("x".repeat(1_000))));
    },
  });
  const headers = { "content-type": "multipart/form-data; boundary=b" };
  const request = new Request(`http://localhost${path}`, { method: "POST", body: leaving, headers });
  const reserve = (sizeBytes: number): void => {
    taken += sizeBytes;
  };
  await expect(readForm(request, reserve)).rejects.toThrow("the client is gone");
});
