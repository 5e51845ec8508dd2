// The HTTP client of the command line: one gateway, one key, a limit on every silence, and every way to fail as a text
// for a person and an exit code. It never follows a redirect, which would carry the key elsewhere.
import { setTimeout as sleep } from "node:timers/promises";
import type { ClientConfig } from "../config.ts";
import { messageOf } from "../errors.ts";

/** What a script learns from the end of a command; `tasks --help` says it in words. */
export const exitCodes = {
  done: 0,
  taskFailed: 1,
  usage: 2,
  unreachable: 3,
  refused: 4,
  interrupted: 130,
} as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** Ends a command. */
export class CommandFailure extends Error {
  readonly exitCode: ExitCode;

  constructor(exitCode: ExitCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.exitCode = exitCode;
  }
}

export interface CallOptions {
  /** Sent as JSON. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** Milliseconds without a byte after which the gateway is taken for gone. Default 30,000. */
  readonly silenceMs?: number;
}

/** An answer with a status of 2xx. Whoever got it reads it to its end, or closes it. */
export interface Answer {
  readonly status: number;
  chunks(): AsyncGenerator<Uint8Array>;
  close(): void;
}

/** Every call throws a CommandFailure: `refused` for what will never go better, `unreachable` for what may. */
export interface Client {
  call(method: string, path: string, options?: CallOptions): Promise<Answer>;
  /** The text of a JSON answer. */
  json(method: string, path: string, body?: unknown): Promise<string>;
  /** Throws when the user interrupts. */
  pause(ms: number): Promise<void>;
}

/** A gateway holds a submission for 5 s at most. */
const silenceMsDefault = 30_000;
/** A page of 100 tasks has at most about 7 MB. */
const jsonBytesMax = 64 * 1024 * 1024;

/** `interrupt` aborts when the user has had enough. */
export function createClient({ url, apiKey }: ClientConfig, interrupt: AbortSignal): Client {
  const failure = (error: unknown): CommandFailure => {
    if (error instanceof CommandFailure) return error;
    if (interrupt.aborted) return new CommandFailure(exitCodes.interrupted, "interrupted");
    return new CommandFailure(exitCodes.unreachable, `cannot reach ${url}: ${reasonOf(error)}`, { cause: error });
  };

  const call: Client["call"] = async (method, path, { body, headers, silenceMs = silenceMsDefault } = {}) => {
    const ending = new AbortController();
    let timer = setTimeout(() => ending.abort(), silenceMs);
    const close = (): void => {
      clearTimeout(timer);
      ending.abort();
    };
    try {
      const response = await fetch(url + path, {
        method,
        headers: { "x-api-key": apiKey, ...(body !== undefined && { "content-type": "application/json" }), ...headers },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        redirect: "manual",
        signal: AbortSignal.any([ending.signal, interrupt]),
      });
      if (!response.ok) throw await refusal(url, response);
      return {
        status: response.status,
        close,
        async *chunks() {
          try {
            for await (const chunk of response.body ?? []) {
              clearTimeout(timer); // however long the reader takes is no silence of the gateway's
              yield chunk;
              timer = setTimeout(() => ending.abort(), silenceMs);
            }
          } catch (error) {
            throw failure(error);
          } finally {
            close();
          }
        },
      };
    } catch (error) {
      close();
      throw failure(error);
    }
  };

  return {
    call,
    async json(method, path, body) {
      const answer = await call(method, path, { body });
      const text = await textOf(url, answer);
      try {
        JSON.parse(text);
        return text;
      } catch {
        throw stranger(url, answer.status);
      }
    },
    pause: (ms) =>
      sleep(ms, undefined, { signal: interrupt }).catch((error: unknown) => {
        throw failure(error);
      }),
  };
}

function reasonOf(error: unknown): string {
  const { name, code } = error as { name?: string; code?: string };
  if (name === "AbortError") return "it does not answer";
  return /ConnectionRefused|ECONNREFUSED/.test(code ?? "") ? "nothing listens there" : messageOf(error);
}

async function textOf(url: string, answer: Answer): Promise<string> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of answer.chunks()) {
    sizeBytes += chunk.byteLength;
    if (sizeBytes > jsonBytesMax) throw stranger(url, answer.status);
    chunks.push(chunk);
  }
  return new TextDecoder().decode(Buffer.concat(chunks));
}

const stranger = (url: string, status: number): CommandFailure =>
  new CommandFailure(exitCodes.unreachable, `${url} does not answer as Millrace does (HTTP ${status})`);

interface Problem {
  readonly code: string;
  readonly detail: string;
  readonly errors?: readonly { readonly path: string; readonly message: string }[];
}

/** What a refusal says. After 429 and 5xx the same may go better later; after the rest it never will. */
async function refusal(url: string, response: Response): Promise<CommandFailure> {
  if (response.headers.get("content-type") !== "application/problem+json") return stranger(url, response.status);
  const { code, detail, errors = [] } = (await response.json()) as Problem;
  const fields = errors.map(({ path, message }) => `\n  ${path} ${message}`).join("");
  const later = response.status === 429 || response.status >= 500;
  return new CommandFailure(later ? exitCodes.unreachable : exitCodes.refused, `${detail} (${code})${fields}`);
}
