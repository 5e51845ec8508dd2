// What OpenAPI says about the routes of language models. Data only; llm.ts points here, openapi.ts renders it.
import type { ErrorCode } from "../errors.ts";
import type { LlmEndpoint } from "../models/llm-models.ts";
import type { Answer, Operation, Parameter } from "./route.ts";

/** As the simulator of a fresh installation calls it. Requests name none: they work wherever a model answers. */
const exampleModel = "millrace-sim";
const created = 1_795_255_200;

const sessionHeader: Parameter = {
  name: "x-session-id",
  in: "header",
  description: "Names a conversation: its calls go to the same GPU, whose cache holds it, unless that is overloaded.",
  schema: { type: "string" },
  example: "conversation-4711",
};

/** What every route of models can answer beside what its body is refused for. */
const modelErrors: readonly ErrorCode[] = [
  "invalid_request",
  "unknown_model",
  "model_overloaded",
  "insufficient_quota",
  "upstream_failed",
  "upstream_unauthorized",
  "model_unavailable",
  "upstream_timeout",
  "not_ready",
];
const jsonErrors: readonly ErrorCode[] = [
  "invalid_json",
  "request_timeout",
  "payload_too_large",
  "unsupported_media_type",
  ...modelErrors,
];

/** On answers to a key that has a quota. */
const tokenHeaders = {
  "x-ratelimit-limit-tokens": "Tokens of the key's UTC day, where it has a quota.",
  "x-ratelimit-remaining-tokens": "What is left of them, without what calls under way have reserved.",
  "x-ratelimit-reset-tokens": "Time to midnight UTC, as in `3600s`.",
};

const json = (description: string, schema: string, example: object): Answer => ({
  description,
  headers: tokenHeaders,
  content: { "application/json": { schema: { $ref: `#/components/schemas/${schema}` }, example } },
});

/** The same as events, for a route that streams. */
const orStream = (answer: Answer, chunk: object): Answer => ({
  ...answer,
  description: `${answer.description} With \`stream\`: events, the last of them \`data: [DONE]\`.`,
  content: {
    ...answer.content,
    "text/event-stream": {
      schema: { type: "string" },
      example: `data: ${JSON.stringify(chunk)}\n\ndata: [DONE]\n\n`,
    },
  },
});

type TypedEvent = Readonly<Record<string, unknown>> & { readonly type: string };

/** The same as OpenAI's typed events. */
const orEvents = (answer: Answer, when: string, ...events: readonly TypedEvent[]): Answer => ({
  ...answer,
  description: `${answer.description} ${when}: events, the last of them \`${events.at(-1)?.type}\`.`,
  content: {
    ...answer.content,
    "text/event-stream": {
      schema: { type: "string" },
      example: events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join(""),
    },
  },
});

const eventing =
  "The head is sent with the first event, or after 8 s with a comment (`: beat`); what fails afterwards is an event with " +
  "`error`. A server that knows no stream is answered for by a stream of one piece.";

const streaming =
  "With `stream: true` tokens come as they are made, with comments (`: beat`) while there are none. The status is sent " +
  "with the first token, or after 8 s; what fails afterwards is an event with `error`, then `data: [DONE]`. A client " +
  "that leaves ends the call. Fields that are not described here go on to the server.";

const chat = {
  id: "chatcmpl-5e2f0f7a",
  object: "chat.completion",
  created,
  model: exampleModel,
  choices: [{ index: 0, message: { role: "assistant", content: "A GPU." }, finish_reason: "stop" }],
  usage: { prompt_tokens: 12, completion_tokens: 4, total_tokens: 16 },
};
const completion = {
  id: "cmpl-5e2f0f7a",
  object: "text_completion",
  created,
  model: exampleModel,
  choices: [{ index: 0, text: " a GPU.", finish_reason: "stop" }],
  usage: { prompt_tokens: 5, completion_tokens: 4, total_tokens: 9 },
};

const embeddings = {
  object: "list",
  data: [
    { object: "embedding", index: 0, embedding: [0.6, 0.8] },
    { object: "embedding", index: 1, embedding: [0.8, 0.6] },
  ],
  model: exampleModel,
  usage: { prompt_tokens: 4, total_tokens: 4 },
};
const mediaUsage = { input_tokens: 5, output_tokens: 40, total_tokens: 45 };
const pictures = { created, data: [{ b64_json: "iVBORw0KGgo=" }] };

export const llmOperations: Readonly<Record<LlmEndpoint, Operation>> = {
  "chat/completions": {
    id: "createChatCompletion",
    tag: "Language models",
    summary: "Answer a conversation",
    description: `As the OpenAI API has it: texts, pictures, tools, structured outputs. ${streaming}`,
    parameters: [sessionHeader],
    body: {
      schema: "ChatRequest",
      example: { messages: [{ role: "user", content: "What turns the wheel?" }] },
    },
    answers: {
      "200": orStream(json("The answer.", "ChatAnswer", chat), {
        ...chat,
        object: "chat.completion.chunk",
        choices: [{ index: 0, delta: { role: "assistant", content: "A" }, finish_reason: null }],
      }),
    },
    errors: jsonErrors,
  },
  completions: {
    id: "createCompletion",
    tag: "Language models",
    summary: "Continue a text",
    description: `As the OpenAI API has it. ${streaming}`,
    parameters: [sessionHeader],
    body: {
      schema: "CompletionRequest",
      example: { prompt: "What turns the wheel is", max_tokens: 16 },
    },
    answers: {
      "200": orStream(json("The continuation.", "CompletionAnswer", completion), {
        ...completion,
        choices: [{ index: 0, text: " a", finish_reason: null }],
      }),
    },
    errors: jsonErrors,
  },
  embeddings: {
    id: "createEmbedding",
    tag: "Language models",
    summary: "Embed texts",
    description: "A vector for each input, in their order; texts of like meaning lie near each other.",
    body: { schema: "EmbeddingRequest", example: { input: ["a mill", "a race"] } },
    answers: {
      "200": json("The vectors.", "EmbeddingAnswer", embeddings),
    },
    errors: jsonErrors,
  },
  "images/generations": {
    id: "createImage",
    tag: "Language models",
    summary: "Make pictures",
    description:
      "One or more pictures from a text, in base64. Whoever can wait submits a task instead. With `stream: true` each " +
      `comes when it is done, and before it up to three coarse views (\`partial_images\`). ${eventing}`,
    body: { schema: "ImageRequest", example: { prompt: "A water mill at dawn", size: "512x512" } },
    answers: {
      "200": orEvents(
        json("The pictures.", "ImageAnswer", pictures),
        "With `stream`",
        {
          type: "image_generation.partial_image",
          b64_json: "iVBORw0KGgo=",
          partial_image_index: 0,
          created_at: created,
        },
        { type: "image_generation.completed", b64_json: "iVBORw0KGgo=", created_at: created, usage: mediaUsage },
      ),
    },
    errors: jsonErrors,
  },
  "audio/transcriptions": {
    id: "createTranscription",
    tag: "Language models",
    summary: "Write speech down",
    description:
      "A form with a sound of at most 25 MB, and the model. The answer has the type that the format has. With `stream` " +
      `the words come as they are heard. ${eventing}`,
    body: {
      schema: "TranscriptionRequest",
      mediaType: "multipart/form-data",
      example: { file: "(bytes)" },
    },
    answers: {
      "200": orEvents(
        json("The words.", "TranscriptionAnswer", { text: "The wheel turns." }),
        "With `stream`",
        { type: "transcript.text.delta", delta: "The wheel turns." },
        { type: "transcript.text.done", text: "The wheel turns.", usage: { type: "tokens", ...mediaUsage } },
      ),
    },
    errors: ["request_timeout", "payload_too_large", "unsupported_media_type", ...modelErrors],
  },
  "audio/speech": {
    id: "createSpeech",
    tag: "Language models",
    summary: "Speak a text",
    description:
      "The text as sound, in the format that was asked for, sent as it is made: what breaks off in the middle resets the " +
      `connection. With \`stream_format: sse\` its pieces are events, in base64. ${eventing}`,
    body: { schema: "SpeechRequest", example: { input: "The wheel turns.", voice: "alloy" } },
    answers: {
      "200": orEvents(
        {
          description: "The sound.",
          headers: tokenHeaders,
          content: { "audio/*": { schema: { type: "string", format: "binary" } } },
        },
        "With `stream_format: sse`",
        { type: "speech.audio.delta", audio: "UklGRg==" },
        { type: "speech.audio.done", usage: mediaUsage },
      ),
    },
    errors: jsonErrors,
  },
};
