// `/v1/audio/speech` and `/v1/audio/transcriptions`: a text as a WAV, and what was said in one. The sound and the words
// are made by speak.ts and transcribe.ts; here are OpenAI's forms of them, and the time that they take.

import { requestIdOf } from "./chat.ts";
import { ContentError } from "./chat-request.ts";
import { leftResponse, workInEngine } from "./engine-work.ts";
import { generate, refuseFull } from "./generate.ts";
import { jsonResponse } from "./json-response.ts";
import { planAnswer } from "./plan.ts";
import type { Exchange, JsonBody, Route, Simulation } from "./routes.ts";
import { readFlag, readSampling, roomFor } from "./sampling.ts";
import { servedModel } from "./served-models.ts";
import { speak } from "./speak.ts";
import { soundStream, speechSender } from "./speech-stream.ts";
import { tokenize } from "./tokenizer.ts";
import { type Transcript, transcribe } from "./transcribe.ts";
import { transcriptSender } from "./transcript-sender.ts";
import { subtitlesOf, verboseTranscript } from "./transcript-text.ts";
import { WireError } from "./wire-error.ts";

export const audioRoutes: readonly Route[] = [
  { method: "POST", path: "/v1/audio/speech", body: "json", handle: answerSpeech },
  { method: "POST", path: "/v1/audio/transcriptions", body: "form", handle: answerTranscription },
];

function answerSpeech(exchange: Exchange, simulation: Simulation): Response | Promise<Response> {
  const { body } = exchange;
  const model = servedModel(body, simulation.models);
  const { input, voice = "alloy", speed = 1, response_format: format = "wav" } = body;
  if (typeof input !== "string") throw new WireError(400, "input must be a text", "input");
  if (typeof voice !== "string") throw new WireError(400, "voice must be a name", "voice");
  if (typeof speed !== "number") throw new WireError(400, "speed must be a number", "speed");
  if (format !== "wav" && format !== "pcm") {
    throw new WireError(400, "response_format can only be wav or pcm here", "response_format");
  }
  const prompt = tokenize(input);
  // Checked and made first: the engine has no time for what cannot be said.
  const sound = spoken(input, { voice, speed, format });
  const steps = Math.max(prompt.length, 1);
  if (readStreamFormat(body) === "sse") return streamSpeech(sound, prompt, steps, model, exchange, simulation);
  const headers = {
    "content-type": format === "wav" ? "audio/wav" : "audio/pcm",
    "x-system-fingerprint": simulation.fingerprint,
  };
  return new Response(soundStream(sound, { prompt, steps }, model, simulation, exchange), { headers });
}

/** `stream` alone asks for events too, as vLLM-Omni has it. */
function readStreamFormat(body: JsonBody): "audio" | "sse" {
  const format = body.stream_format ?? (readFlag(body, "stream") ? "sse" : "audio");
  if (format === "audio" || format === "sse") return format;
  throw new WireError(400, "stream_format must be audio or sse", "stream_format");
}

function streamSpeech(
  sound: Uint8Array,
  prompt: readonly string[],
  steps: number,
  model: string,
  exchange: Exchange,
  simulation: Simulation,
): Response | Promise<Response> {
  refuseFull(simulation);
  roomFor(prompt.length, steps, simulation.engine.profile().maxModelLen);
  const plan = {
    pieces: new Array<string>(steps).fill(""),
    deltas: [],
    finishReason: "stop",
    stopReason: null,
  } as const;
  const sampling = readSampling({ stream: true }, []);
  const sender = speechSender(sound, steps, prompt.length, simulation.fingerprint);
  return generate({ simulation, exchange, sampling, prompts: [prompt], plans: [plan], salt: model, sender });
}

function spoken(input: string, options: Parameters<typeof speak>[1]): Uint8Array {
  try {
    return speak(input, options);
  } catch (error) {
    if (error instanceof ContentError) throw new WireError(400, error.message, error.param);
    throw error;
  }
}

const formats = ["json", "text", "verbose_json", "srt", "vtt"] as const;

/** As Whisper: fifty frames a second, and a window of thirty seconds at a time. */
const FRAMES_PER_SECOND = 50;
const FRAMES_MAX = 1_500;

async function answerTranscription(exchange: Exchange, simulation: Simulation): Promise<Response> {
  const { body, file } = exchange;
  const model = servedModel(body, simulation.models);
  const format = formats.find((one) => one === (body.response_format ?? "json"));
  if (format === undefined) {
    throw new WireError(400, `response_format must be one of ${formats.join(", ")}`, "response_format");
  }
  if (file === null || file.size === 0) throw new WireError(400, "file must be a recording", "file");
  const transcript = transcribe(new Uint8Array(await file.arrayBuffer()));
  const frames = Math.min(FRAMES_MAX, Math.max(1, Math.ceil(transcript.durationS * FRAMES_PER_SECOND)));
  const prompt = new Array<string>(frames).fill(`<|${Bun.hash(transcript.text)}|>`);
  if (isSet(body, "stream")) {
    if (format !== "json" && format !== "text") {
      throw new WireError(400, "a stream has response_format json or text", "response_format");
    }
    return streamTranscript(transcript.text, prompt, model, exchange, simulation);
  }
  const option = ["stream_include_usage", "stream_continuous_usage_stats"].find((name) => isSet(body, name));
  if (option) throw new WireError(400, "Stream options can only be defined when `stream=True`.", option);
  const works = [{ prompt, steps: tokenize(transcript.text).length + 1 }];
  if (!(await workInEngine(works, model, simulation, exchange))) return leftResponse();
  return transcriptResponse(transcript, format, exchange, simulation);
}

function transcriptResponse(
  transcript: Transcript,
  format: (typeof formats)[number],
  { body }: Exchange,
  { fingerprint }: Simulation,
): Response {
  const usage = { type: "duration", seconds: Math.ceil(transcript.durationS) };
  const { text } = transcript;
  if (format === "json") return jsonResponse({ text, usage, system_fingerprint: fingerprint });
  if (format === "verbose_json") {
    const verbose = verboseTranscript(transcript, body);
    return jsonResponse({ ...verbose, usage, system_fingerprint: fingerprint });
  }
  const plain = format === "text" ? `${text}\n` : subtitlesOf(transcript, format);
  const type = format === "vtt" ? "text/vtt" : "text/plain";
  return new Response(plain, {
    headers: { "content-type": `${type}; charset=utf-8`, "x-system-fingerprint": fingerprint },
  });
}

/** Of a form, where everything is text. */
const isSet = (body: JsonBody, name: string): boolean => /^(true|1|on|yes)$/i.test(String(body[name]));

/** As vLLM streams it: chunks with deltas, the usage last where it was asked for. */
function streamTranscript(
  text: string,
  prompt: readonly string[],
  model: string,
  exchange: Exchange,
  simulation: Simulation,
): Promise<Response> {
  const includeUsage = isSet(exchange.body, "stream_include_usage");
  const continuousUsage = includeUsage && isSet(exchange.body, "stream_continuous_usage_stats");
  const given = { stream: true, ...(includeUsage && { stream_options: { include_usage: true } }) };
  const sampling = readSampling(given, []);
  refuseFull(simulation);
  const room = roomFor(prompt.length, null, simulation.engine.profile().maxModelLen);
  const plan = planAnswer({ parts: [{ kind: "content", text }], finishReason: "stop" }, sampling, room);
  const id = `trsc-${requestIdOf(exchange)}`;
  const { fingerprint } = simulation;
  const sender = transcriptSender({
    id,
    model,
    fingerprint,
    plan,
    promptTokens: prompt.length,
    includeUsage,
    continuousUsage,
  });
  return Promise.resolve(
    generate({ simulation, exchange, sampling, prompts: [prompt], plans: [plan], salt: model, sender }),
  );
}
