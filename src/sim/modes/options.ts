// What a request and the settings say of how its answer is made. Read once for each request; a header goes before the
// body, the body before the settings. The files that settings name are read when the simulator starts.
import { type ChatMessage, isRecord } from "../chat-request.ts";
import type { AnswerSource, Exchange } from "../routes.ts";
import { SettingsError } from "../settings-error.ts";
import { toolTextFormats } from "../tool-text.ts";
import { WireError } from "../wire-error.ts";
import { type Dataset, loadDataset } from "./dataset.ts";
import type { AnswerMode, AnswerOptions } from "./mode.ts";
import { ruleFor, type Scenario } from "./scenario.ts";
import { loadScenarios, type Scenarios } from "./script-file.ts";
import { parseTemplate, type Template, TemplateError } from "./template.ts";

/** As text, so that settings, headers and bodies say the same. */
export interface AnswerSettings {
  /** Without one: `template` where there is one, `scripted` where a scenario is named, else `conversation`. */
  readonly mode?: string | null;
  /** Text of the mode `template`. */
  readonly template?: string | null;
  /** Path of the JSONL file of the mode `dataset`. */
  readonly dataset?: string | null;
  /** Path of the file of scenarios of the mode `scripted`. */
  readonly script?: string | null;
  /** Which of them; not needed where there is one. */
  readonly scenario?: string | null;
  /** Default `parsed`. */
  readonly toolFormat?: string | null;
  /** Default 0. */
  readonly malformedArguments?: string | null;
}

const kinds = ["conversation", "echo", "random", "template", "dataset", "scripted"] as const;
/** Of each: the name of the header is `x-sim-…`, with hyphens, that in `vllm_xargs` `sim_…`. */
const names = ["mode", "template", "scenario", "tool_format", "malformed_arguments"] as const;
type Given = Readonly<Partial<Record<(typeof names)[number], string>>>;

/** What is wrong with a setting; becomes a SettingsError, or a 400. */
class OptionError extends Error {}

/** Throws SettingsError. */
export async function loadAnswers(settings: AnswerSettings): Promise<AnswerSource> {
  const files: Files = {
    dataset: settings.dataset ? await loadDataset(settings.dataset) : null,
    scenarios: settings.script ? await loadScenarios(settings.script) : null,
  };
  const { mode, template, scenario, toolFormat, malformedArguments } = settings;
  const given: Record<string, string> = {};
  const texts = [mode, template, scenario, toolFormat, malformedArguments];
  for (const [at, text] of texts.entries()) if (text) given[names[at] ?? ""] = text;
  let standing: Given = { ...given, mode: kindOf(given, { mode: "conversation" }) };
  if (scenario) settled(() => read({ ...standing, mode: "scripted" }, files));
  let defaults = settled(() => read(standing, files));
  const optionsOf = (exchange: Exchange): AnswerOptions => {
    try {
      const wanted = wantedBy(exchange);
      if (wanted === null) return defaults;
      return read({ ...standing, ...wanted, mode: kindOf(wanted, standing) }, files);
    } catch (error) {
      if (error instanceof OptionError) throw new WireError(400, error.message, "vllm_xargs");
      throw error;
    }
  };
  return {
    optionsOf,
    standing: () => ({ ...standing, malformed_arguments: defaults.malformedShare }),
    change(wanted) {
      try {
        const given = givenIn(wanted);
        const changed: Given = { ...standing, ...given, mode: kindOf(given, standing) };
        const options = read(changed, files);
        return () => {
          [standing, defaults] = [changed, options];
        };
      } catch (error) {
        if (error instanceof OptionError) throw new WireError(400, `answers: ${error.message}`, "answers");
        throw error;
      }
    },
    faultOf(exchange) {
      if (files.scenarios === null || !exchange.path.endsWith("/completions")) return null;
      const { mode } = optionsOf(exchange);
      return mode.kind === "scripted" ? (ruleFor(mode.scenario, messagesOf(exchange))?.fault ?? null) : null;
    },
  };
}

interface Files {
  readonly dataset: Dataset | null;
  readonly scenarios: Scenarios | null;
}

function settled(read: () => AnswerOptions): AnswerOptions {
  try {
    return read();
  } catch (error) {
    if (error instanceof OptionError) throw new SettingsError(`SIM_MODE and its kin: ${error.message}`);
    throw error;
  }
}

/** Who names a template or a scenario, and no mode, means it. */
const kindOf = (wanted: Given, standing: Given): string =>
  wanted.mode ?? (wanted.template ? "template" : wanted.scenario ? "scripted" : (standing.mode ?? ""));

/** What the request itself says; null where it says nothing, as most. Throws OptionError. */
function wantedBy({ request, body }: Exchange): Given | null {
  const xargs = isRecord(body.vllm_xargs) ? body.vllm_xargs : null;
  let given: Record<string, string> | null = null;
  for (const name of names) {
    const value = request.headers.get(headerOf[name]) ?? xargs?.[`sim_${name}`];
    if (value == null) continue;
    if (typeof value !== "string" && typeof value !== "number") throw new OptionError(`sim_${name} must be a text`);
    given ??= {};
    given[name] = String(value);
  }
  return given;
}

/** What a change of the settings names. Throws OptionError. */
function givenIn(wanted: unknown): Given {
  if (!isRecord(wanted)) throw new OptionError("must be an object");
  const given: Record<string, string> = {};
  for (const [name, value] of Object.entries(wanted)) {
    if (!names.some((one) => one === name)) throw new OptionError(`has no field ${name}: one of ${names.join(", ")}`);
    if (typeof value !== "string" && typeof value !== "number") throw new OptionError(`${name} must be a text`);
    given[name] = String(value);
  }
  return given;
}

const headerOf: Readonly<Record<(typeof names)[number], string>> = {
  mode: "x-sim-mode",
  template: "x-sim-template",
  scenario: "x-sim-scenario",
  tool_format: "x-sim-tool-format",
  malformed_arguments: "x-sim-malformed-arguments",
};

/** Throws OptionError. */
function read(given: Given, files: Files): AnswerOptions {
  const { tool_format: format, malformed_arguments: share = "0" } = given;
  const toolFormat = toolTextFormats.find((one) => one === format) ?? null;
  if (format !== undefined && format !== "parsed" && toolFormat === null) {
    throw new OptionError(`tool_format must be one of parsed, ${toolTextFormats.join(", ")}`);
  }
  const malformedShare = Number(share);
  if (share.trim() === "" || !(malformedShare >= 0 && malformedShare <= 1)) {
    throw new OptionError("malformed_arguments must be a number from 0 to 1");
  }
  return { mode: readMode(given, files), toolFormat, malformedShare };
}

function readMode({ mode, template, scenario }: Given, { dataset, scenarios }: Files): AnswerMode {
  const kind = kinds.find((one) => one === mode);
  switch (kind) {
    case undefined:
      throw new OptionError(`mode must be one of ${kinds.join(", ")}`);
    case "template":
      if (template === undefined) throw new OptionError("the mode template needs a template");
      return { kind, template: readTemplate(template) };
    case "dataset":
      if (dataset === null) throw new OptionError("the mode dataset needs a file: SIM_DATASET");
      return { kind, dataset };
    case "scripted":
      if (scenarios === null) throw new OptionError("the mode scripted needs a file: SIM_SCRIPT");
      return { kind, scenario: scenarioOf(scenario, scenarios) };
    default:
      return { kind };
  }
}

function readTemplate(text: string): Template {
  try {
    return parseTemplate(text);
  } catch (error) {
    if (error instanceof TemplateError) throw new OptionError(`the template ${error.message}`);
    throw error;
  }
}

function scenarioOf(name: string | undefined, scenarios: Scenarios): Scenario {
  const [only] = scenarios.values();
  const found = name === undefined && scenarios.size === 1 ? only : scenarios.get(name ?? "");
  if (found !== undefined) return found;
  throw new OptionError(`scenario must be one of ${[...scenarios.keys()].join(", ")}`);
}

/** Before anything is checked; what is no conversation fits no moment. An answer that is gone on with is not yet said. */
function messagesOf({ body }: Exchange): readonly ChatMessage[] {
  const { messages, prompt } = body;
  if (!Array.isArray(messages)) return typeof prompt === "string" ? [{ role: "user", content: prompt }] : [];
  const said = messages.filter((message) => isRecord(message) && typeof message.role === "string") as ChatMessage[];
  return body.continue_final_message === true && said.at(-1)?.role === "assistant" ? said.slice(0, -1) : said;
}
