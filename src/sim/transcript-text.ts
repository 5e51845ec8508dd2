// A transcript as subtitles or with all its details, as OpenAI writes them. Pure; called by audio.ts.
import type { JsonBody } from "./routes.ts";
import { idOf, tokenize } from "./tokenizer.ts";
import type { Transcript } from "./transcribe.ts";

/** SubRip, or WebVTT (W3C). */
export function subtitlesOf({ segments }: Transcript, format: "srt" | "vtt"): string {
  const mark = format === "srt" ? "," : ".";
  const cues = segments.map(({ startS, endS, text }, index) => {
    const number = format === "srt" ? `${index + 1}\n` : "";
    return `${number}${clockOf(startS, mark)} --> ${clockOf(endS, mark)}\n${text}\n\n`;
  });
  return (format === "vtt" ? "WEBVTT\n\n" : "") + cues.join("");
}

function clockOf(seconds: number, mark: string): string {
  const ms = Math.round(seconds * 1_000);
  const two = (value: number): string => String(Math.floor(value)).padStart(2, "0");
  const clock = `${two(ms / 3_600_000)}:${two((ms / 60_000) % 60)}:${two((ms / 1_000) % 60)}`;
  return `${clock}${mark}${String(ms % 1_000).padStart(3, "0")}`;
}

/** `verbose_json`; words are in it where `timestamp_granularities[]` asks for them. */
export function verboseTranscript(transcript: Transcript, body: JsonBody) {
  const { durationS, text, segments, words } = transcript;
  const temperature = Number(body.temperature ?? 0) || 0;
  const asked = [body["timestamp_granularities[]"], body.timestamp_granularities].flat();
  return {
    task: "transcribe",
    language: typeof body.language === "string" ? body.language : "en",
    duration: durationS,
    text,
    segments: segments.map((segment) => ({
      id: segment.id,
      seek: 0,
      start: segment.startS,
      end: segment.endS,
      text: segment.text,
      tokens: tokenize(segment.text).map(idOf),
      temperature,
      avg_logprob: -0.1,
      compression_ratio: 1,
      no_speech_prob: 0,
    })),
    ...(asked.includes("word") && {
      words: words.map(({ word, startS, endS }) => ({ word, start: startS, end: endS })),
    }),
  };
}
