import { expect, test } from "bun:test";
import { ContentError } from "./chat-request.ts";
import { SPEECH_CHARS_MAX, speak } from "./speak.ts";
import { transcribe } from "./transcribe.ts";
import { writeWave } from "./wave-file.ts";

const options = { voice: "alloy", speed: 1, format: "wav" } as const;

test.each(["The mill turns. The water runs!", "Ich heiße Jörg.", "我发烧三天了。", "안녕하세요", "!?"])(
  "what was spoken is transcribed: %s",
  (text) => {
    const { text: heard, durationS, segments } = transcribe(speak(text, options));
    expect(heard).toBe(text);
    expect(durationS).toBeGreaterThan(0.1);
    expect(segments.at(-1)?.endS).toBe(durationS);
  },
);

test("text behind a NUL is not in the file, whose strings end there", () => {
  expect(transcribe(speak("a\0b", options)).text).toBe("a");
});

test("longer text takes longer, faster speech shorter, and pcm is the samples alone", () => {
  const seconds = (text: string, speed = 1): number => transcribe(speak(text, { ...options, speed })).durationS;
  expect(seconds("one two three four five six")).toBeGreaterThan(seconds("one two") * 2);
  expect(seconds("one two three", 2)).toBeCloseTo(seconds("one two three") / 2, 1);
  const wave = speak("one two", options);
  const pcm = speak("one two", { ...options, format: "pcm" });
  expect(Buffer.from(wave).indexOf(Buffer.from(pcm))).toBeGreaterThan(40);
  expect(pcm.length / 48_000).toBeCloseTo(seconds("one two"), 3);
});

test("another voice sounds different, the same one the same", () => {
  expect(speak("hello", options)).toEqual(speak("hello", options));
  expect(speak("hello", { ...options, voice: "onyx" })).not.toEqual(speak("hello", options));
});

test("the longest and slowest speech has a limit", () => {
  const { durationS } = transcribe(speak("a ".repeat(SPEECH_CHARS_MAX / 2), { ...options, speed: 0.25 }));
  expect(durationS).toBeLessThan(310);
});

test("what cannot be spoken names its field", () => {
  expect(() => speak(" ", options)).toThrow(ContentError);
  expect(() => speak("x".repeat(SPEECH_CHARS_MAX + 1), options)).toThrow(ContentError);
  expect(() => speak("x", { ...options, speed: 9 })).toThrow(ContentError);
});

test("other recordings are said to be heard by no one, with their length", () => {
  const foreign = Buffer.from(writeWave(new Uint8Array(96_000), "secret"));
  foreign.write("Other", foreign.indexOf("Millrace"), "latin1");
  expect(transcribe(foreign).text).toBe(
    "This is a recording of 2.0 seconds. The simulator cannot hear what is said in it.",
  );
  const mp3 = Buffer.concat([Buffer.from([0xff, 0xfb, 0x90, 0x00]), Buffer.alloc(15_996)]);
  expect(transcribe(mp3).durationS).toBe(1);
  expect(transcribe(Buffer.from("no sound at all")).text).toContain("15 bytes");
});

test("a file that lies about its lengths is read to its end", () => {
  const cut = speak("hello there", options).slice(0, 1000);
  expect(transcribe(cut)).toMatchObject({ text: "hello there" });
  expect(transcribe(Buffer.from("RIFF\xff\xff\xff\xffWAVEdata\xff\xff\xff\xff", "latin1")).durationS).toBe(0);
});
