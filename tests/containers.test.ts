// The image and the compose file without Docker: what they name exists and is pinned, what they set is a setting, and the
// commands of the image, with the settings of the compose file, on exactly the files that the image holds, run a task.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parse } from "yaml";
import { startS3 } from "../src/blobs/s3-server.ts";
import { resolveServerBinary } from "../src/bus/server.ts";
import { until } from "./stack.ts";

setDefaultTimeout(60_000);

interface Service {
  readonly image: string;
  readonly build?: string;
  readonly command: readonly string[];
  readonly environment?: Readonly<Record<string, string | number>>;
  readonly healthcheck?: { readonly test: readonly string[] };
  readonly profiles?: readonly string[];
  readonly deploy?: object;
  readonly volumes?: readonly string[];
  readonly ports?: readonly string[];
}

const root = join(import.meta.dir, "..");
const read = (file: string): Promise<string> => readFile(join(root, file), "utf8");
const composeText = await read("docker-compose.yml");
const dockerfile = await read("Dockerfile");
const { services } = parse(composeText, { merge: true }) as { services: Record<string, Service> };
const ours = Object.entries(services).filter(([, service]) => service.build !== undefined);
/** What an operator puts into .env for it. */
const given: Readonly<Record<string, string>> = {
  NATS_TOKEN: "0123456789",
  S3_ACCESS_KEY: "S3RVER",
  S3_SECRET_KEY: "a-secret-of-sixteen",
};
/** Settings of the compose file that no process of ours reads. */
const composeOnly = ["NATS_TOKEN", "LLM_MODEL", "HF_TOKEN"];

test("every image is pinned, and the image's Bun is the project's", async () => {
  const { packageManager, version } = JSON.parse(await read("package.json")) as Record<string, string>;
  const images = Object.values(services).map(({ image }) => image);
  for (const image of images) expect(image).toMatch(/^[\w./-]+:(?!latest)[\w.-]*\d[\w.-]*$/);
  expect(new Set(ours.map(([, { image }]) => image))).toEqual(new Set([`millrace:${version}`]));
  expect(`bun@${/^ARG BUN_VERSION=(.+)$/m.exec(dockerfile)?.[1]}`).toBe(packageManager ?? "");
  for (const [, from = ""] of dockerfile.matchAll(/^FROM (\S+)/gm))
    expect(from).toMatch(/^oven\/bun:\$\{BUN_VERSION\}-slim$/);
});

test("what runs is no root, may write nothing but its data, and is looked at", () => {
  expect(dockerfile.indexOf("USER bun")).toBeLessThan(dockerfile.indexOf("ENTRYPOINT"));
  expect(dockerfile).toMatch(/^HEALTHCHECK /m);
  for (const [, service] of ours) {
    expect(service).toMatchObject({
      read_only: true,
      init: true,
      restart: "unless-stopped",
      cap_drop: ["ALL"],
      security_opt: ["no-new-privileges:true"],
    });
  }
  for (const [name, { healthcheck }] of Object.entries(services)) {
    if (name !== "gateway") expect([name, healthcheck?.test[0]]).toEqual([name, "CMD"]); // it has the image's
  }
  const published = Object.values(services).flatMap(({ ports = [] }) => ports);
  expect(published).toEqual([expect.stringMatching(/^127\.0\.0\.1:.*:8000$/)]);
});

test("GPUs are asked for under their profile alone", () => {
  const onGpu = Object.entries(services).filter(([, { deploy }]) => JSON.stringify(deploy ?? {}).includes('["gpu"]'));
  expect(onGpu.map(([name]) => name).sort()).toEqual(["actor-gpu", "vllm"]);
  for (const [, { profiles }] of onGpu) expect(profiles).toEqual(["gpu"]);
  expect(Object.values(services).filter(({ profiles }) => profiles)).toHaveLength(onGpu.length);
});

test("every variable is a setting that .env.example explains, or one of the compose file's own", async () => {
  const known = [...(await read(".env.example")).matchAll(/^#?([A-Z0-9_]+)=/gm)].map(([, name]) => name ?? "");
  const named = ours.flatMap(([, { environment = {} }]) => Object.keys(environment));
  const used = [...composeText.matchAll(/\$\{([A-Z0-9_]+)/g)].map(([, name]) => name ?? "");
  expect(named.filter((name) => !known.includes(name))).toEqual([]);
  expect([...new Set(used)].filter((name) => !known.includes(name) && !composeOnly.includes(name))).toEqual([]);
  // The text behind :? says what is missing: what may not be left out is exactly what `given` has.
  const needed = new Set([...composeText.matchAll(/\$\{([A-Z0-9_]+):\?/g)].map(([, name]) => name ?? ""));
  expect([...needed].sort()).toEqual(Object.keys(given).sort());
});

const compose = Bun.which("docker") !== null && Bun.spawnSync(["docker", "compose", "version"]).exitCode === 0;

test.skipIf(!compose)("docker compose config accepts the file (skipped without Docker's compose plugin)", () => {
  const command = ["docker", "compose", "--env-file", "/dev/null", "--profile", "gpu", "config", "--quiet"];
  const ran = Bun.spawnSync(command, { cwd: root, env: { PATH: process.env.PATH, ...given } });
  expect([ran.exitCode, ran.stderr.toString()]).toEqual([0, ""]);
});

const cleanup = new AsyncDisposableStack();
let app: string;
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace image "));
  cleanup.defer(() => rm(folder, { recursive: true, force: true }));
  app = join(folder, "app");
  await copyImage(app);
});

afterAll(() => cleanup.disposeAsync());

/** The files that the Dockerfile copies out of what .dockerignore lets through; packages as they are installed here. */
async function copyImage(to: string): Promise<void> {
  const allowed = (await read(".dockerignore")).split("\n").flatMap((line) => /^!(.+)$/.exec(line)?.[1] ?? []);
  const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, names = ""]) => names.split(" "));
  expect(copied.filter((name) => !allowed.includes(name))).toEqual([]);
  expect((await readdir(root)).filter((name) => allowed.includes(name)).sort()).toEqual([...allowed].sort());
  await mkdir(to);
  const filter = (source: string): boolean => !source.endsWith(".test.ts");
  for (const name of new Set(copied)) await cp(join(root, name), join(to, name), { recursive: true, filter });
  await symlink(join(root, "node_modules"), join(to, "node_modules"));
}

/** The settings of a service as compose would hand them over, with `replaced` in place of names inside its network. */
function environmentOf(name: string, replaced: Readonly<Record<string, string>>): Record<string, string> {
  const resolved = Object.entries(services[name]?.environment ?? {}).map(([key, value]) => {
    const text = String(value).replace(/\$\{(\w+)(?::[-?]([^}]*))?\}/g, (_, variable: string, fallback = "") => {
      return given[variable] ?? fallback;
    });
    return [key, Object.entries(replaced).reduce((all, [from, to]) => all.replaceAll(from, to), text)];
  });
  return Object.fromEntries(resolved);
}

/** Runs the image's entry point with a service's command; resolves to the log line that says it is ready. */
async function runService(name: string, environment: Record<string, string>): Promise<Record<string, string>> {
  const entry = JSON.parse(/^ENTRYPOINT (.+)$/m.exec(dockerfile)?.[1] ?? "[]") as string[];
  const dataDir = join(folder, name);
  await mkdir(dataDir);
  const child = Bun.spawn([process.execPath, ...entry.slice(1), ...(services[name]?.command ?? [])], {
    cwd: app,
    env: { PATH: process.env.PATH ?? "", HOST: "127.0.0.1", ...environment, DATA_DIR: dataDir },
    stdio: ["ignore", "ignore", "pipe"],
  });
  cleanup.defer(async () => {
    child.kill("SIGTERM");
    expect([name, await child.exited]).toEqual([name, 0]);
  });
  let text = "";
  const late = setTimeout(() => child.kill("SIGKILL"), 30_000);
  for await (const chunk of child.stderr) {
    text += Buffer.from(chunk).toString();
    const ready = text.split("\n").find((line) => /"message":"(gateway|actor) is ready"/.test(line));
    if (!ready) continue;
    clearTimeout(late);
    return JSON.parse(ready) as Record<string, string>;
  }
  throw new Error(`${name} ended: ${text}`);
}

/** As `docker compose exec gateway` would run it. */
async function createKey(environment: Record<string, string>): Promise<string> {
  const command = /docker compose exec gateway bun (src\/main\.ts keys create .+)$/m.exec(
    await read("docs/operations.md"),
  );
  const child = Bun.spawn([process.execPath, ...(command?.[1]?.split(" ") ?? [])], {
    cwd: app,
    env: { PATH: process.env.PATH ?? "", ...environment, DATA_DIR: join(folder, "gateway") },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [text] = await Promise.all([child.stdout.text(), child.exited]);
  return (JSON.parse(text) as { key: string }).key;
}

async function startNats(): Promise<string> {
  const store = join(folder, "nats");
  const text = (await read("deploy/nats.conf"))
    .replace("port: 4222", 'host: "127.0.0.1"\nport: -1')
    .replace('http: "127.0.0.1:8222"', 'http: "127.0.0.1:-1"')
    .replace('store_dir: "/data"', `store_dir: ${JSON.stringify(store)}\n`);
  await writeFile(join(folder, "nats.conf"), `ports_file_dir: ${JSON.stringify(folder)}\n${text}`);
  const child = Bun.spawn([resolveServerBinary(null), "--config", join(folder, "nats.conf")], {
    env: environmentOf("nats", {}),
    stdio: ["ignore", "ignore", "ignore"],
  });
  cleanup.defer(async () => {
    child.kill("SIGTERM");
    await child.exited;
  });
  const ports = await until("the broker's ports", 10_000, async () => {
    const name = (await readdir(folder)).find((file) => file.endsWith(".ports"));
    const text = name ? await readFile(join(folder, name), "utf8") : "";
    return text.endsWith("}") || text.endsWith("}\n")
      ? (JSON.parse(text) as { nats: string[]; monitoring: string[] })
      : null;
  });
  expect((await fetch(`${ports.monitoring[0]}/healthz`)).status).toBe(200);
  const { config } = (await (await fetch(`${ports.monitoring[0]}/jsz`)).json()) as { config: object };
  expect(config).toMatchObject({ sync_always: true });
  return new URL(ports.nats[0] ?? "").host;
}

test("the commands of the image run a task, each part by itself, and their health checks pass", async () => {
  const s3 = await startS3();
  cleanup.defer(() => s3.stop());
  const replaced = { "nats:4222": await startNats(), "http://minio:9000": s3.settings.endpoint };
  // The test server has one account, whose secret is its name; ours would not be accepted as short as that.
  const account = { S3_ACCESS_KEY: s3.settings.accessKey, S3_SECRET_KEY: s3.settings.secretKey };
  const gateway = { ...environmentOf("gateway", replaced), ...account };
  const [{ metrics = "" }, { url = "" }] = await Promise.all([
    runService("actor", {
      ...environmentOf("actor", replaced),
      ...account,
      METRICS_HOST: "127.0.0.1",
      METRICS_PORT: "0",
    }),
    runService("gateway", { ...gateway, PORT: "0" }),
  ]);
  const headers = { "x-api-key": await createKey(gateway), "content-type": "application/json" };
  await until("the model is announced, and the key known", 10_000, async () => {
    const answers = [await fetch(`${url}/health/ready`), await fetch(`${url}/v1/models`, { headers })];
    return answers.every(({ status }) => status === 200) ? true : null;
  });
  const body = JSON.stringify({ model: "echo", input: { text: "x".repeat(20_000) } });
  const answer = await fetch(`${url}/v1/tasks`, { method: "POST", headers: { ...headers, prefer: "wait=20" }, body });
  expect([answer.status, ((await answer.json()) as { status: string }).status]).toEqual([200, "SUCCESS"]);
  expect((await fetch(`${url}/metrics`)).status).toBe(401);
  expect((await fetch(`${url}/metrics`, { headers })).status).toBe(403);

  const image = /^HEALTHCHECK [\s\S]*?CMD (\[.+\])$/m.exec(dockerfile)?.[1] ?? "[]";
  const checks = {
    gateway: [JSON.parse(image) as string[], { PORT: new URL(url).port }],
    actor: [services.actor?.healthcheck?.test.slice(1).map((part) => part.replace("9100", new URL(metrics).port)), {}],
  } as const;
  for (const [name, [command, env]] of Object.entries(checks)) {
    const child = Bun.spawn([process.execPath, ...(command ?? []).slice(1)], {
      cwd: dirname(app),
      env,
      stdio: ["ignore", "ignore", "inherit"],
    });
    expect([name, await child.exited]).toEqual([name, 0]);
  }
});
