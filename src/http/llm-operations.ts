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
    description: "One or more pictures from a text, in base64. Whoever can wait submits a task instead.",
    body: { schema: "ImageRequest", example: { prompt: "A water mill at dawn", size: "512x512" } },
    answers: { "200": json("The pictures.", "ImageAnswer", pictures) },
    errors: jsonErrors,
  },
  "audio/transcriptions": {
    id: "createTranscription",
    tag: "Language models",
    summary: "Write speech down",
    description: "A form with a sound of at most 25 MB, and the model. The answer has the type that the format has.",
    body: {
      schema: "TranscriptionRequest",
      mediaType: "multipart/form-data",
      example: { file: "(bytes)" },
    },
    answers: { "200": json("The words.", "TranscriptionAnswer", { text: "The wheel turns." }) },
    errors: ["request_timeout", "payload_too_large", "unsupported_media_type", ...modelErrors],
  },
  "audio/speech": {
    id: "createSpeech",
    tag: "Language models",
    summary: "Speak a text",
    description: "The text as sound, in the format that was asked for.",
    body: { schema: "SpeechRequest", example: { input: "The wheel turns.", voice: "alloy" } },
    answers: {
      "200": {
        description: "The sound.",
        headers: tokenHeaders,
        content: { "audio/*": { schema: { type: "string", format: "binary" } } },
      },
    },
    errors: jsonErrors,
  },
};
