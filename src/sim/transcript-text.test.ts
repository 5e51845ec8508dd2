// Subtitles by the forms of SubRip and WebVTT.
import { expect, test } from "bun:test";
import { subtitlesOf } from "./transcript-text.ts";

const transcript = {
  text: "One. Two.",
  durationS: 7_384.005,
  segments: [
    { id: 0, startS: 0, endS: 61.5, text: "One." },
    { id: 1, startS: 61.5, endS: 7_384.005, text: "Two." },
  ],
  words: [],
};

test("cues have hours, minutes, seconds and thousandths", () => {
  expect(subtitlesOf(transcript, "srt")).toBe(
    "1\n00:00:00,000 --> 00:01:01,500\nOne.\n\n2\n00:01:01,500 --> 02:03:04,005\nTwo.\n\n",
  );
  expect(subtitlesOf(transcript, "vtt")).toBe(
    "WEBVTT\n\n00:00:00.000 --> 00:01:01.500\nOne.\n\n00:01:01.500 --> 02:03:04.005\nTwo.\n\n",
  );
});
