// The command line: parses, and calls the composition root of the command, which is imported only then, so that no
// process loads what it does not run. What a command throws ends here, as one line or as a stack, and as the exit code.
import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import manifest from "../package.json" with { type: "json" };
import { type Config, loadConfig } from "./config.ts";
import { AppError, asAppError, messageOf } from "./errors.ts";
import { createLog, type Log } from "./log.ts";

const HELP = `millrace ${manifest.version}: a runtime for GPU and LLM work

usage: bun millrace <command>

  up              start everything on this machine: broker, gateway, one actor per GPU in GPU_IDS
  gateway         start one gateway, beside a running \`up\` or on NATS_URL
  actor --gpu N   start one actor on GPU N, beside a running \`up\` or on NATS_URL
  sim             start a simulated vLLM server, for machines without a GPU
  rebuild         build the read model in SQL anew from the logs, while nothing runs
  keys …          create, list, rotate and revoke API keys; \`keys --help\` says how
  tasks …         submit, get, watch, cancel and list tasks over HTTP; \`tasks --help\` says how
  --help          show this
  --version       show the version

Settings come from the environment and from .env; .env.example lists them.
`;

interface Command {
  readonly name: "up" | "gateway" | "actor" | "sim" | "rebuild" | "keys" | "help" | "version";
  readonly gpu: string;
  /** What follows `keys`, which parses it itself. */
  readonly args?: string[];
}

const isName = (name: string): name is "up" | "gateway" | "actor" | "sim" | "rebuild" =>
  ["up", "gateway", "actor", "sim", "rebuild"].includes(name);

/** What the arguments ask for; a text when they make no sense. */
function parseCommand(args: string[]): Command | string {
  if (args[0] === "keys") return { name: "keys", gpu: "", args: args.slice(1) };
  try {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: { help: { type: "boolean", short: "h" }, version: { type: "boolean" }, gpu: { type: "string" } },
    });
    const [name, ...rest] = positionals;
    if (values.help || name === "help") return { name: "help", gpu: "" };
    if (values.version) return { name: "version", gpu: "" };
    if (name === undefined) return "no command given";
    if (!isName(name)) return `no command ${name}`;
    if (rest.length > 0) return `${name} takes no ${rest.join(" ")}`;
    if (name === "actor" && !/^[A-Za-z0-9-]{1,64}$/.test(values.gpu ?? ""))
      return "actor needs --gpu with an id such as 0";
    if (name !== "actor" && values.gpu !== undefined) return `${name} takes no --gpu`;
    return { name, gpu: values.gpu ?? "" };
  } catch (error) {
    return messageOf(error);
  }
}

async function run(command: Command): Promise<void> {
  if (command.name === "keys") return runKeys(command.args ?? []);
  const config = loadConfig(process.env);
  const log = createLog(command.name === "actor" ? `actor-${command.gpu}` : command.name, config.logLevel);
  process.on("unhandledRejection", (error) => crash(error, log));
  // Under a supervisor: its end is ours, from the first moment on. Its broker and our lease go with it.
  if (process.send) process.on("disconnect", () => process.exit(1));
  switch (command.name) {
    case "up": {
      const { runUp } = await import("./up/up.ts");
      return runUp(config, log);
    }
    case "gateway": {
      const { runGateway } = await import("./gateway.ts");
      return runGateway(await besideUp(config));
    }
    case "actor": {
      process.env.CUDA_VISIBLE_DEVICES = command.gpu; // `up` sets it too; before any runner's library is loaded
      const { runActor } = await import("./actors/actor.ts");
      return runActor(await besideUp(config), command.gpu);
    }
    case "sim":
      return runSim(config);
    case "rebuild": {
      const [{ atRest }, { runRebuild }] = await Promise.all([import("./up/maintenance.ts"), import("./rebuild.ts")]);
      return atRest(config, log, runRebuild);
    }
  }
}

/** The simulated model server, until SIGTERM or SIGINT. */
async function runSim({ sim }: Config): Promise<void> {
  const { SettingsError, startSimulator } = await import("./sim/simulator.ts");
  const asked = new Promise<void>((resolve) => {
    for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => resolve());
  });
  const simulator = await startSimulator(sim).catch((error: unknown) => {
    if (error instanceof SettingsError) throw new AppError("invalid_config", error.message);
    if (error instanceof Error && "code" in error && error.code === "EADDRINUSE") {
      throw new AppError("port_taken", `SIM_PORT ${sim.port} is taken`);
    }
    throw error;
  });
  if (process.send) process.send({ type: "ready", url: simulator.url });
  else process.stdout.write(`simulator (${sim.profile}) at ${simulator.url}/v1, models ${sim.models.join(", ")}\n`);
  await asked;
  await simulator.stop();
}

/** A proxy of the environment is for other machines: keys and prompts for servers of this one would go through it. */
function keepLoopbackDirect(): void {
  const here = ["127.0.0.1", "localhost", "::1", process.env.NO_PROXY ?? process.env.no_proxy ?? ""];
  process.env.NO_PROXY = process.env.no_proxy = here.filter(Boolean).join(",");
}

/** The `tasks` commands on the streams of this process. */
async function runTasksHere(args: string[]): Promise<number> {
  const { runTasks } = await import("./cli/tasks.ts");
  const interrupt = new AbortController();
  process.once("SIGINT", () => {
    interrupt.abort();
    setTimeout(() => process.exit(130), 1_000).unref(); // what cannot be interrupted, as a read of a terminal
  });
  const sink = (stream: NodeJS.WriteStream) => {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
      process.exit(0); // whoever read it has seen enough, as `head` has
    });
    return {
      isTty: stream.isTTY === true,
      columns: stream.columns || 80,
      write: (bytes: string | Uint8Array) => new Promise<void>((resolve) => stream.write(bytes, () => resolve())),
    };
  };
  return runTasks(args, process.env, {
    stdin: () => Bun.stdin.stream(),
    stdout: sink(process.stdout),
    stderr: sink(process.stderr),
    interrupt: interrupt.signal,
  });
}

/** The configuration with what `up` runs on this DATA_DIR, where it names no broker and no model server of its own. */
async function besideUp(config: Config): Promise<Config> {
  return withSimulator(await withBroker(config));
}

async function withSimulator(config: Config): Promise<Config> {
  if (config.llm.baseUrl !== null || config.env === "prod") return config;
  const { simulatorUrlFile } = await import("./up/simulator.ts");
  const baseUrl = await readFile(simulatorUrlFile(config.dataDir), "utf8").catch(() => null);
  return { ...config, llm: { ...config.llm, baseUrl } };
}

async function withBroker(config: Config): Promise<Config> {
  if (config.natsUrl !== null) return config;
  const { brokerUrlFile } = await import("./up/broker.ts");
  const natsUrl = await readFile(brokerUrlFile(config.dataDir), "utf8").catch(() => null);
  if (natsUrl === null) {
    throw new AppError(
      "invalid_config",
      `no broker: set NATS_URL, or start \`up\` on DATA_DIR ${config.dataDir} first`,
    );
  }
  return { ...config, natsUrl };
}

const textOf = (error: unknown): string => (error instanceof Error ? (error.stack ?? error.message) : String(error));

/** A broken invariant: the process ends, and whoever supervises it starts another. */
function crash(error: unknown, log: Log): never {
  log.error({ error: textOf(error) }, "unhandled rejection");
  process.exit(1);
}

/** Says why the command ended: an expected failure to the supervisor where there is one, which prints it, else here. */
async function explain(error: unknown): Promise<void> {
  const known = asAppError(error);
  if (known && process.send) {
    const message = { type: "failed", code: known.code, message: known.message };
    await new Promise((resolve) => process.send?.(message, undefined, undefined, resolve));
  } else {
    process.stderr.write(known ? `millrace: ${known.message}\n` : `${textOf(error)}\n`);
  }
}

/** The `keys` commands, which need neither a broker nor a running `up`. */
async function runKeys(args: string[]): Promise<void> {
  const { KEYS_HELP, parseKeysCommand } = await import("./keys/command.ts");
  const command = parseKeysCommand(args);
  if (typeof command === "string") {
    process.stderr.write(`millrace: ${command}\n\n${KEYS_HELP}`);
    process.exit(2);
  }
  const { runKeysCommand } = await import("./keys/run-command.ts");
  const text = await runKeysCommand(loadConfig(process.env), command, process.stdout.isTTY);
  await new Promise((resolve) => process.stdout.write(text, resolve));
}

keepLoopbackDirect();
if (process.argv[2] === "tasks") {
  process.exit(
    await runTasksHere(process.argv.slice(3)).catch(async (error: unknown) => {
      await explain(error);
      return 70; // as EX_SOFTWARE of sysexits: 1 is a task that failed
    }),
  );
}

const command = parseCommand(process.argv.slice(2));
if (typeof command === "string") {
  process.stderr.write(`millrace: ${command}\n\n${HELP}`);
  process.exit(2);
} else if (command.name === "help" || command.name === "version") {
  process.stdout.write(command.name === "help" ? HELP : `${manifest.version}\n`);
} else {
  try {
    await run(command);
    process.exit(0);
  } catch (error) {
    await explain(error);
    process.exit(1);
  }
}
