// The JSON Schemas of the language models' routes, for the API's document: what Millrace acts upon or checks. What else
// OpenAI or vLLM know goes on to the server, so the objects are open. Pure data.

const text = (description: string): object => ({ type: "string", description });
const integer = (description: string, minimum = 0, maximum?: number): object => ({
  type: "integer",
  minimum,
  ...(maximum !== undefined && { maximum }),
  description,
});
const fixed = (value: string): object => ({ type: "string", const: value, description: `Always \`${value}\`.` });
const list = (description: string, items: object): object => ({ type: "array", description, items });
const open = (description: string, required: readonly string[], properties: object): object => ({
  type: "object",
  description,
  required,
  additionalProperties: true,
  properties,
});

const model = {
  type: "string",
  minLength: 1,
  maxLength: 256,
  description: "Id or alias of a model, slashes and all, as GET /v1/models lists it. Default: the operator's choice.",
};
const user = text("Your name for the end user; one stays with the same variant of a model. At most 512 characters.");
const stream = {
  type: "boolean",
  default: false,
  description: "Answer with server-sent events, ended by `data: [DONE]`.",
};
const events = (description: string): object => ({ type: "boolean", default: false, description });
const streamOptions = {
  type: "object",
  description: "With `stream` alone.",
  additionalProperties: true,
  properties: {
    include_usage: { type: "boolean", description: "Tell the tokens in a last chunk without choices." },
  },
};
const generation = {
  stream,
  stream_options: streamOptions,
  n: integer("Answers to make.", 1, 128),
  max_tokens: integer("Tokens to make at most."),
  temperature: { type: "number", minimum: 0, description: "0 takes the likeliest token each time." },
  seed: { type: "integer", description: "The same seed and request are answered alike, as far as the server can." },
  stop: { description: "A text, or a list of them, that ends the answer." },
  structured_outputs: {
    type: "object",
    additionalProperties: true,
    description:
      "vLLM's constraint: one of `json`, `regex`, `choice`, `grammar`, `json_object`, `structural_tag`. The older " +
      "`guided_json`, `guided_regex`, `guided_choice`, `guided_grammar` are translated into it. Another server than " +
      "vLLM gets `json` as `response_format`; the rest is refused there.",
  },
  cache_salt: text("Parts the prefix cache further. The caches of two keys are apart in any case."),
  prompt_cache_key: text("Names a conversation: its calls go to the same GPU. The header x-session-id does the same."),
  user,
};

const usage = (made: object): object => ({
  type: "object",
  description: "Tokens.",
  additionalProperties: true,
  properties: { prompt_tokens: integer("Of the prompt."), total_tokens: integer("Of both."), ...made },
});
const madeUsage = usage({ completion_tokens: integer("Of the answer.") });

const answered = (object: string, choice: object): object =>
  open("An answer.", ["id", "object", "created", "model", "choices"], {
    id: text("Id of the answer."),
    object: fixed(object),
    created: integer("When it was begun, in seconds since 1970."),
    model: text("The model as its server calls it."),
    choices: list("One for each of `n`.", choice),
    usage: madeUsage,
  });

const inputs = (what: string): object => ({
  description: `${what}: a text, a list of texts, a list of token ids, or a list of such lists.`,
  anyOf: [
    { type: "string", minLength: 1 },
    { type: "array", minItems: 1 },
  ],
});

export const llmSchemas: Readonly<Record<string, object>> = {
  ChatRequest: open("A conversation to be answered.", ["messages"], {
    model,
    messages: {
      type: "array",
      minItems: 1,
      description:
        "The conversation. A part `image_url` may hold a data: URL or an https:// one, which Millrace fetches: at most " +
        "16 pictures (PNG, JPEG, WebP) of 16 MiB together, from public addresses.",
      items: open("A message.", ["role"], {
        role: text("Who speaks: `system`, `user`, `assistant`, `tool`."),
        content: { description: "A text, or a list of parts." },
      }),
    },
    tools: list("Functions that the model may ask for.", { type: "object" }),
    response_format: { type: "object", description: "`text`, `json_object`, or `json_schema` with a JSON Schema." },
    ...generation,
  }),
  ChatAnswer: answered(
    "chat.completion",
    open("One answer.", ["index", "message", "finish_reason"], {
      index: integer("Its number."),
      message: open("What the model says.", ["role"], {
        role: fixed("assistant"),
        content: { type: ["string", "null"], description: "Its text." },
        reasoning: { type: ["string", "null"], description: "What it thought before, where the server tells." },
        tool_calls: list("Functions to be called.", { type: "object" }),
      }),
      finish_reason: { type: ["string", "null"], description: "`stop`, `length`, `tool_calls`, …" },
    }),
  ),
  CompletionRequest: open("A text to be continued.", ["prompt"], {
    model,
    prompt: inputs("What to continue"),
    ...generation,
  }),
  CompletionAnswer: answered(
    "text_completion",
    open("One continuation.", ["index", "text", "finish_reason"], {
      index: integer("Its number."),
      text: text("The continuation."),
      finish_reason: { type: ["string", "null"], description: "`stop` or `length`." },
    }),
  ),
  EmbeddingRequest: open("Texts to be embedded.", ["input"], {
    model,
    input: inputs("What to embed, at most 2,048 texts"),
    encoding_format: {
      type: "string",
      enum: ["float", "base64"],
      default: "float",
      description: "Lists of numbers, or little-endian float32 in base64, which the official SDKs ask for.",
    },
    dimensions: integer("Length of the vectors, where the model lets one choose.", 1),
    user,
  }),
  EmbeddingAnswer: open("The vectors, in the order of the inputs.", ["object", "data", "model"], {
    object: fixed("list"),
    data: list(
      "One an input.",
      open("A vector.", ["object", "index", "embedding"], {
        object: fixed("embedding"),
        index: integer("Number of its input."),
        embedding: { description: "The vector, as `encoding_format` says.", type: ["array", "string"] },
      }),
    ),
    model: text("The model as its server calls it."),
    usage: usage({}),
  }),
  ImageRequest: open("A picture to be made.", ["prompt"], {
    model,
    prompt: text("What it shows."),
    n: integer("Pictures to make.", 1, 10),
    size: text("Pixels, such as `512x512`."),
    response_format: text("`b64_json` or `url`, as far as the server can; in a stream always `b64_json`."),
    stream: events("Send each picture as an event when it is done."),
    partial_images: integer("Coarse views of each before it is done, in a stream, where the server can.", 0, 3),
    user,
  }),
  ImageAnswer: open("The pictures.", ["created", "data"], {
    created: integer("When they were made, in seconds since 1970."),
    data: list("One for each of `n`.", open("A picture.", [], { b64_json: text("Its bytes in base64.") })),
  }),
  SpeechRequest: open("A text to be spoken.", ["input"], {
    model,
    input: { type: "string", minLength: 1, description: "The text." },
    voice: text("Name of a voice that the model has."),
    response_format: text("`wav`, `mp3`, …, as far as the server can."),
    speed: { type: "number", exclusiveMinimum: 0, description: "1 is as people speak." },
    stream_format: {
      type: "string",
      enum: ["audio", "sse"],
      default: "audio",
      description: "The sound as bytes while it is made, or as server-sent events.",
    },
    stream: events(
      "As `stream_format: sse`, which other servers know by this name; `stream_format: audio` overrules it.",
    ),
  }),
  TranscriptionRequest: open("Speech to be written down.", ["file"], {
    model,
    file: { type: "string", format: "binary", description: "The sound, at most 25 MB." },
    language: text("Its language, as ISO 639-1 names it."),
    prompt: text("A text that it continues."),
    response_format: text("`json`, `text`, `verbose_json`, `srt` or `vtt`, as far as the server can."),
    temperature: { type: "number", minimum: 0, description: "0 takes the likeliest words." },
    stream: events("Send the words as events, while they are heard."),
  }),
  TranscriptionAnswer: open("What was said.", ["text"], { text: text("The words.") }),
};
