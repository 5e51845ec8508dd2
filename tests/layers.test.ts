// The layout of the source as a test: who may import whom, which packages stay behind which fence, how large things may
// be, and what no file may hold. It reads the text of the files, because tools that parse imports drop `import type`.
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

const root = join(import.meta.dir, "..");
const listed = (pattern: string): string[] => [...new Bun.Glob(pattern).scanSync({ cwd: root })].sort();
const read = (file: string): string => readFileSync(join(root, file), "utf8");

const sources = listed("src/**/*.ts");
const tests = [...listed("{src,runners,plugins,bench}/**/*.test.ts"), ...listed("tests/**/*.ts")];
const isTest = (file: string): boolean => tests.includes(file);
const code = sources.filter((file) => !isTest(file));
const all = [...new Set([...listed("{src,runners,plugins,bench,scripts}/**/*.ts"), ...tests])].filter(
  (file) => !file.startsWith("bench/peers/") && !file.includes("node_modules/") && !file.includes("/fixtures/"),
);

// Each layer may import those below it, and nothing of its own but its own folder. A file of src/ itself is a module.
const layers = [
  ["main"],
  ["cli", "gateway", "rebuild", "up"],
  ["upkeep"],
  ["http", "web"],
  ["chats", "webhooks", "files"],
  ["actors"],
  ["tasks"],
  ["testing"],
  ["sdk"],
  ["live"],
  ["llm"],
  ["models"],
  ["registry"],
  ["usage"],
  ["prompts", "keys"],
  ["bus", "blobs", "db", "net"],
  ["metrics", "trace"],
  ["config"],
  ["settings"],
  ["errors", "clock", "deadline", "ids", "log", "restart", "sim"],
];
/** Edges that the layers forbid and that have a reason. `importer -> imported`. */
const allowedEdges: Record<string, string> = {
  "registry/loader -> sdk": "the loader hands the SDK to plugins outside the repository as a virtual module",
};

/** A package, and the paths that may import it; the bus, the store and the database end at their fences. */
const fences: Record<string, RegExp> = {
  "@nats-io/": /^src\/bus\//,
  minio: /^src\/blobs\//,
  elysia: /^src\/(http|web)\/|^src\/sdk\.ts$/,
  "@elysiajs/": /^src\/(http|web)\//,
  "swagger-ui-dist": /^src\/(http|web)\//,
  sharp: /^src\/registry\/|^runners\//,
  ajv: /^src\/registry\//,
  croner: /^src\/tasks\/cron\.ts$/,
  pino: /^src\/log\.ts$/,
  openai: /^src\/(llm|registry|sdk\.ts)/,
  // The queries stand beside their nouns; the lock needs no table, only the portable file lock.
  "bun:sqlite": /^src\/(db|tasks|keys|usage|webhooks|chats|files)\/|^src\/up\/lock\.ts$/,
};

interface Import {
  readonly file: string;
  readonly specifier: string;
}

/** Every static import or re-export, type-only ones too, and every import() of a literal. */
function importsOf(file: string): Import[] {
  const text = read(file);
  const found = [
    ...text.matchAll(/^(?:import|export)\s[^;'"`]*?from\s*"([^"]+)"/gms),
    ...text.matchAll(/^import\s*"([^"]+)"/gm),
    ...text.matchAll(/\bimport\("([^"]+)"\)/g),
  ];
  return found.map((match) => ({ file, specifier: match[1] ?? "" }));
}

const moduleOf = (file: string): string => /^src\/([\w-]+)/.exec(file)?.[1] ?? "";
const levelOf = (file: string): number => layers.findIndex((layer) => layer.includes(moduleOf(file)));
const nameOf = (file: string): string => file.replace(/^src\//, "").replace(/\.ts$/, "");

test("every module of src/ has its place in the layers", () => {
  expect(code.filter((file) => levelOf(file) < 0)).toEqual([]);
});

test("imports run one way, down the layers", () => {
  const breaches: string[] = [];
  for (const { file, specifier } of code.flatMap(importsOf)) {
    if (!specifier.startsWith(".")) continue;
    const target = normalize(join(dirname(file), specifier));
    if (target === "package.json" || moduleOf(target) === moduleOf(file) || levelOf(target) > levelOf(file)) continue;
    const edge = `${nameOf(file)} -> ${nameOf(target)}`;
    if (!(edge in allowedEdges)) breaches.push(edge);
  }
  expect(breaches).toEqual([]);
});

test("src/ reaches runners and plugins only through the loader", () => {
  const reached = code.flatMap(importsOf).filter(({ specifier }) => /(^|\/)(runners|plugins)\//.test(specifier));
  expect(reached).toEqual([]);
});

test("runners and plugins see the SDK alone", () => {
  const authors = [...listed("runners/**/*.ts"), ...listed("plugins/**/*.ts")].filter((file) => !isTest(file));
  const reaching = authors.flatMap(importsOf).filter(({ specifier }) => /(^|\/)src\//.test(specifier));
  expect(reaching).toEqual([]);
});

test("vendor packages stay behind their fences", () => {
  const breaches: string[] = [];
  for (const { file, specifier } of [...code, ...listed("{runners,plugins}/**/*.ts")].flatMap(importsOf)) {
    for (const [name, fence] of Object.entries(fences)) {
      const matches = name.endsWith("/") ? specifier.startsWith(name) : specifier === name;
      if (matches && !isTest(file) && !fence.test(file)) breaches.push(`${file} imports ${specifier}`);
    }
    if (/^import\b[^;]*\bSQL\b[^;]*from "bun"/m.test(read(file)) && !fences["bun:sqlite"]?.test(file)) {
      breaches.push(`${file} imports SQL`);
    }
  }
  expect(breaches).toEqual([]);
});

test("relative imports name their file, extension and all", () => {
  const loose = all.flatMap(importsOf).filter(({ specifier }) => /^\./.test(specifier) && !/\.\w+$/.test(specifier));
  expect(loose).toEqual([]);
});

const FILE_LINES_MAX = 400;
const FUNCTION_LINES_MAX = 60;
const LINE_CHARS_MAX = 120;

test(`files have at most ${FILE_LINES_MAX} lines`, () => {
  expect(all.filter((file) => read(file).split("\n").length - 1 > FILE_LINES_MAX)).toEqual([]);
});

test(`lines have at most ${LINE_CHARS_MAX} characters`, () => {
  const long = all.flatMap((file) =>
    read(file)
      .split("\n")
      .flatMap((line, index) => (line.length > LINE_CHARS_MAX ? [`${file}:${index + 1}`] : [])),
  );
  // What the formatter cannot break: one long string or template.
  expect(long.filter((place) => !/["'`/]/.test(lineAt(place)))).toEqual([]);
});

const lineAt = (place: string): string => {
  const [file = "", line] = place.split(":");
  return read(file).split("\n")[Number(line) - 1] ?? "";
};

interface Block {
  readonly name: string;
  readonly ownLines: number;
}

/** A line that opens a function: an arrow, a declaration, a method, or the end of a signature over several lines. */
function opensFunction(line: string): boolean {
  const head = line.trimStart();
  if (head.endsWith("=> {")) return true;
  if (!head.endsWith("{") || /^(if|for|while|switch|catch|with)\b/.test(head)) return false;
  const declaration = /^(export )?(default )?(async )?function\b/;
  const method = /^((static|private|protected|override|async|get|set) )*\*?[\w#$]+(<[^(]*>)?\(.*\)(: .+)? \{$/;
  return declaration.test(head) || method.test(head) || /^\)(: .+)? \{$/.test(head);
}

/**
 * The functions of a formatted file, by indentation: each ends at the next line of its indentation that starts with
 * `}`. The lines of functions within it are theirs, not its own, so that a constructor function is not charged for the
 * methods that it returns.
 */
function functionsOf(text: string): Block[] {
  const lines = text.split("\n");
  const found: { name: string; from: number; to: number }[] = [];
  lines.forEach((line, from) => {
    if (!opensFunction(line)) return;
    const indent = /^\s*/.exec(line)?.[0] ?? "";
    const to = lines.findIndex((end, index) => index > from && end.startsWith(`${indent}}`));
    if (to > from) found.push({ name: line.trim().slice(0, 60), from, to });
  });
  return found.map((block) => {
    const inner = found.filter((other) => other.from > block.from && other.to <= block.to);
    const outermost = inner.filter(
      (one) => !inner.some((other) => other !== one && other.from < one.from && other.to >= one.to),
    );
    const theirs = outermost.reduce((sum, one) => sum + (one.to - one.from), 0);
    return { name: `${block.from + 1} ${block.name}`, ownLines: block.to - block.from + 1 - theirs };
  });
}

test(`functions have at most ${FUNCTION_LINES_MAX} lines of their own`, () => {
  const long = all
    .filter((file) => !isTest(file))
    .flatMap((file) =>
      functionsOf(read(file))
        .filter((block) => block.ownLines > FUNCTION_LINES_MAX)
        .map((block) => `${file}:${block.name} (${block.ownLines})`),
    );
  expect(long).toEqual([]);
});

test("the function counter sees what it should", () => {
  const body = (count: number) => Array.from({ length: count }, () => "    work();");
  const text = ["function outer() {", "  const inner = () => {", ...body(70), "  };", "  return inner;", "}"].join(
    "\n",
  );
  expect(functionsOf(text).map((block) => block.ownLines)).toEqual([4, 72]);
});

test("names are kebab-case and say what is inside", () => {
  const banned = /(^|\/)(utils?|helpers?|common|types?|misc|shared|index|lib|impl|manager)(\.|\/|$)/;
  const bad = all.filter((file) => {
    const path = file.replace(/\.(test|d)\.ts$/, ".ts");
    return banned.test(path) || !/^[a-z0-9-]+(\/[a-z0-9-]+)*\.ts$/.test(path);
  });
  expect(bad).toEqual([]);
});

test("every file of src/ says at its head what it is for", () => {
  expect(code.filter((file) => !/^(#!.*\n)?(\/\/|\/\*\*) \S/.test(read(file)))).toEqual([]);
});

/** What no file may hold, and why; `where` picks the files. */
const forbidden: { what: RegExp; why: string; where: (file: string) => boolean }[] = [
  { what: /@ts-(ignore|nocheck|expect-error)/, why: "types are not silenced", where: (file) => !isTest(file) },
  { what: /[:<(,]\s*any\b(?!\w| of| \w)|\bas any\b/, why: "no any", where: () => true },
  { what: /^(export )?(let|var) /m, why: "no mutable state of a module", where: (file) => code.includes(file) },
  { what: /^export default \{/m, why: "no bags as default exports", where: (file) => code.includes(file) },
  { what: /^(export )?enum /m, why: "no enums", where: () => true },
  {
    what: /Bun\.sleep|setTimeout\(\s*(resolve|done|r)\b|setTimeout\(\(\) => (resolve|done)\(\)|from "node:timers\/promises"/,
    why: "tests wait for events, they do not sleep",
    // The stack's one poll loop asks the product, with a deadline, until it answers.
    where: (file) => isTest(file) && file !== "tests/stack.ts",
  },
  {
    what: /import\.meta\.url\)\.pathname/,
    why: "a folder with a space is %20 there; fileURLToPath or import.meta.dir",
    where: () => true,
  },
  {
    what: /\bprocess\.exit\(/,
    why: "only a composition root ends the process",
    where: (file) =>
      code.includes(file) && !/^src\/(main|gateway|rebuild|actors\/(actor|beat|model-server-guard))\.ts$/.test(file),
  },
];

test.each(forbidden)("$why: $what", ({ what, where }) => {
  const self = "tests/layers.test.ts";
  expect(all.filter((file) => file !== self && where(file) && what.test(withoutComments(read(file))))).toEqual([]);
});

/** Comments are prose: "any" is a word there. */
const withoutComments = (text: string): string =>
  text.replace(/^\s*(\/\/|\*|\/\*).*$/gm, "").replace(/ \/\/ .*$/gm, "");
