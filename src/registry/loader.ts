// Imports runner files and says which of them can be used and why the others cannot. Called once by an actor at start
// and by `plugin check`. Importing runs their code: never in the gateway, and never a path that came in a request. One
// broken file does not keep the others from loading.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { withDeadline } from "../deadline.ts";
import { AppError, messageOf } from "../errors.ts";
import type { AnyRunner } from "./define.ts";
import { discover, type RunnerFolders } from "./discover.ts";

/** Top-level code that takes longer hangs; models are read in `load`. */
const IMPORT_MS_MAX = 10_000;
const DEFINITIONS_MAX = 64;

interface LoadedDefinition {
  readonly definition: AnyRunner;
  /** Absolute path. */
  readonly file: string;
  /** Lower-case hexadecimal SHA-256 of the file's content, not of what it imports. */
  readonly sha256: string;
}

/** Why a file, or an entry of MODELS, gives no runner. For the operator: it may hold paths. */
interface LoadProblem {
  readonly file: string;
  readonly reason: string;
}

export interface LoadedDefinitions {
  readonly runners: readonly LoadedDefinition[];
  readonly problems: readonly LoadProblem[];
}

export interface LoadDefinitionsOptions extends RunnerFolders {
  /** Names or globs (`superres-*`) of the runners that are wanted. */
  readonly models: readonly string[];
  /** Default 10,000, for each file. */
  readonly importMsMax?: number;
}

/**
 * Imports every runner file, one after the other. Of two runners with one name the first keeps it: those of
 * `runnersDir` before plugins, then by path. Throws `invalid_config` when a folder cannot be read.
 */
export async function loadDefinitions(options: LoadDefinitionsOptions): Promise<LoadedDefinitions> {
  const runners: LoadedDefinition[] = [];
  const problems: LoadProblem[] = [];
  const fileOfName = new Map<string, string>();
  for (const file of await discover(options)) {
    let definitions: readonly AnyRunner[];
    let sha256: string;
    try {
      sha256 = createHash("sha256")
        .update(await readFile(file))
        .digest("hex");
      definitions = await importDefinitions(file, options.importMsMax ?? IMPORT_MS_MAX);
    } catch (error) {
      problems.push({ file, reason: reasonOf(error) });
      continue;
    }
    for (const definition of definitions) {
      const first = fileOfName.get(definition.name);
      if (first === undefined) {
        fileOfName.set(definition.name, file);
        runners.push({ definition, file, sha256 });
      } else {
        problems.push({ file, reason: `the name ${definition.name} is taken by ${first}` });
      }
    }
  }
  const globs = options.models.map((pattern) => ({ pattern, glob: new Bun.Glob(pattern) }));
  for (const { pattern, glob } of globs) {
    if (![...fileOfName.keys()].some((name) => glob.match(name))) {
      problems.push({ file: "MODELS", reason: `${pattern} names no runner` });
    }
  }
  return {
    runners: runners.filter(({ definition }) => globs.some(({ glob }) => glob.match(definition.name))),
    problems,
  };
}

/** The runners that `file` exports. Throws what the file throws, or `invalid_runner`. */
async function importDefinitions(file: string, importMsMax: number): Promise<readonly AnyRunner[]> {
  const late = (): Error => new AppError("invalid_runner", `the import did not end within ${importMsMax} ms`);
  const module: { readonly default?: unknown } = await withDeadline(
    import(pathToFileURL(file).href),
    importMsMax,
    late,
  );
  const exported = Array.isArray(module.default) ? module.default : [module.default];
  if (exported.length === 0 || exported.length > DEFINITIONS_MAX || !exported.every(isRunner)) {
    const wanted = `the default export must be defineRunner({…}) or a list of 1 to ${DEFINITIONS_MAX} of them`;
    throw new AppError("invalid_runner", wanted);
  }
  return exported;
}

const isRunner = (value: unknown): value is AnyRunner =>
  typeof value === "object" && value !== null && "kind" in value && value.kind === "runner";

const REASON_CHARS_MAX = 1_000;

/** The text of what an import threw; of syntax errors, which come in bundles with positions, the first. */
function reasonOf(error: unknown): string {
  const first: unknown = error instanceof AggregateError && error.errors.length > 0 ? error.errors[0] : error;
  const at = positionOf(first);
  return `${messageOf(first) || "it threw without a message"}${at}`.slice(0, REASON_CHARS_MAX);
}

function positionOf(error: unknown): string {
  if (typeof error !== "object" || error === null || !("position" in error)) return "";
  const { position } = error;
  if (typeof position !== "object" || position === null || !("line" in position)) return "";
  return ` (line ${position.line})`;
}
