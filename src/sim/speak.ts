// Speech of the simulator: a short tone for each syllable, as long as the text would take to read, in a real WAV that
// carries its text. Called by the speech endpoint; it knows no phonetics and says so by sounding like a whistle.
import { ContentError } from "./chat-request.ts";
import { hash32 } from "./rng.ts";
import { SAMPLE_RATE_HZ, writeWave } from "./wave-file.ts";

export interface SpeechOptions {
  /** Any name; it sets the pitch. */
  readonly voice: string;
  /** 0.25 to 4; 1 reads about four syllables a second. */
  readonly speed: number;
  /** `pcm` is the samples alone: 24 kHz, 16 bit, little-endian, mono. */
  readonly format: "wav" | "pcm";
}

/** OpenAI's limit on `input`. */
export const SPEECH_CHARS_MAX = 4096;
/** Slow speech of a long text is hurried to fit: 14 MB of samples. */
const SPEECH_SECONDS_MAX = 300;
const SYLLABLE_S = 0.22;
const PAUSE_S = 0.12;

/** Throws ContentError for an empty or too long `input`, or a speed out of range. */
export function speak(text: string, { voice, speed, format }: SpeechOptions): Uint8Array {
  if (text.trim() === "" || text.length > SPEECH_CHARS_MAX) {
    throw new ContentError(`input must have 1 to ${SPEECH_CHARS_MAX} characters`, "input");
  }
  if (!(speed >= 0.25 && speed <= 4)) throw new ContentError("speed must be 0.25 to 4", "speed");
  const beats = beatsOf(text, 110 + (hash32(voice, 7) % 130));
  const naturalS = beats.reduce((sum, beat) => sum + (beat === 0 ? PAUSE_S : SYLLABLE_S), 0) / speed;
  const pace = speed * Math.max(1, naturalS / SPEECH_SECONDS_MAX);
  const samples = Buffer.concat(
    beats.map((pitchHz) => tone(pitchHz, Math.round(((pitchHz === 0 ? PAUSE_S : SYLLABLE_S) / pace) * SAMPLE_RATE_HZ))),
  );
  return format === "pcm" ? samples : writeWave(samples, text.toWellFormed());
}

/** A pitch in hertz for every syllable, 0 for a pause: groups of vowels, or characters of scripts that write syllables. */
function beatsOf(text: string, baseHz: number): number[] {
  const beats = text.match(/[aeiouyäöüàâéèêíóúаеёиоуыэюя]+|\p{Lo}|\d|[\s\p{P}]+/giu);
  const pitches = (beats ?? []).map((beat) =>
    /^[\s\p{P}]/u.test(beat) ? 0 : baseHz * (1 + (hash32(beat, 3) % 8) / 12),
  );
  return pitches.some((pitch) => pitch > 0) ? pitches : [baseHz];
}

/** A sine that swells and fades, by its recurrence: one multiplication a sample. */
function tone(pitchHz: number, length: number): Buffer {
  const samples = new Int16Array(length);
  if (pitchHz > 0) {
    const step = (2 * Math.PI * pitchHz) / SAMPLE_RATE_HZ;
    const factor = 2 * Math.cos(step);
    const edge = Math.max(1, length / 5);
    let [before, now] = [-Math.sin(step), 0];
    for (let index = 0; index < length; index++) {
      const distance = Math.min(index, length - index);
      samples[index] = distance < edge ? (9000 * now * distance) / edge : 9000 * now;
      const next = factor * now - before;
      before = now;
      now = next;
    }
  }
  return Buffer.from(samples.buffer);
}
