import { afterEach, expect, test } from "bun:test";
import { signal } from "../../tests/broker.ts";
import { silentLog } from "../log.ts";
import { startSimulator } from "../sim/simulator.ts";
import { type Discovery, startDiscovery } from "./discovery.ts";
import { type ModelsFile, parseModelsFile } from "./models-file.ts";
import type { LlmOffers } from "./offers.ts";

const cleanup: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of cleanup.splice(0).reverse()) await end();
});

interface Watched {
  readonly discovery: Discovery;
  readonly offers: LlmOffers[];
  readonly warned: string[];
  readonly told: object[];
  until(holds: () => boolean): Promise<void>;
}

function discover(file: ModelsFile, defaultModel: string | null = null): Watched {
  const changed = signal();
  const offers: LlmOffers[] = [];
  const warned: string[] = [];
  const told: object[] = [];
  const discovery = startDiscovery({
    providers: () => [...file.providers.values()],
    access(name) {
      const provider = file.providers.get(name);
      if (!provider?.baseUrl) throw new Error("not started");
      return { ...provider, baseUrl: provider.baseUrl };
    },
    defaultModel,
    onChange(now) {
      offers.push(now);
      changed.notify();
    },
    log: {
      ...silentLog,
      info: (fields) => told.push(fields),
      warn(fields) {
        warned.push((fields as { reason: string }).reason);
        changed.notify();
      },
    },
  });
  cleanup.push(() => discovery.stop());
  return { discovery, offers, warned, told, until: changed.until };
}
const one = (baseUrl: string, more = ""): ModelsFile =>
  parseModelsFile(`providers: { one: { base_url: "${baseUrl}", discover: true${more} } }`, {});
function serve(fetch: (request: Request) => Response): string {
  const server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch });
  cleanup.push(() => server.stop(true));
  return `http://127.0.0.1:${server.port}`;
}

test("what a server offers is found; when it goes its models stay known and are down, and come back with it", async () => {
  const simulator = await startSimulator({ models: ["meta/llama", "e5"] });
  const { discovery, offers, told, until } = discover(one(simulator.url));
  await until(() => offers.length === 1);
  expect(told).toEqual([{ provider: "one", url: `${simulator.url}/v1`, models: ["meta/llama", "e5"] }]);
  const offer = { models: ["meta/llama", "e5"], kind: "vllm", perGpu: false } as const;
  expect(discovery.offers()).toEqual({ one: { ...offer, ready: true } });
  await simulator.stop();
  discovery.restart();
  await until(() => offers.length === 2);
  expect(discovery.offers()).toEqual({ one: { ...offer, ready: false } });
  const again = await startSimulator({ models: ["meta/llama", "e5"], port: Number(new URL(simulator.url).port) });
  cleanup.push(() => again.stop());
  await until(() => offers.length === 3); // asked again by itself
  expect(discovery.offers()).toEqual({ one: { ...offer, ready: true } });
  expect(told).toHaveLength(2); // not each time that it is asked
});

test("a provider that is not to be asked is offered at its word; one that never answered is not offered", async () => {
  const file = parseModelsFile(
    `providers:
      cloud: { kind: openai, base_url: "http://127.0.0.1:9" }
      down: { base_url: "http://127.0.0.1:9", discover: true }
      own: { base_url: "http://127.0.0.1:9{gpu}", kind: vllm }`,
    {},
  );
  const { discovery, warned, until } = discover(file);
  await until(() => warned.length === 1);
  expect(discovery.offers()).toEqual({
    cloud: { models: null, ready: true, kind: "openai", perGpu: false },
    own: { models: null, ready: true, kind: "vllm", perGpu: true },
  });
});

test("key and headers go to the server; a refused key is not tried again until the next start", async () => {
  let asked = 0;
  const url = serve(({ headers }) => {
    asked++;
    expect([headers.get("authorization"), headers.get("x-org")]).toEqual(["Bearer k", "o"]);
    return new Response(null, { status: 401 });
  });
  const { discovery, warned, until } = discover(one(url, `, api_key: k, headers: { x-org: o }`));
  await until(() => warned.length === 1);
  const others = signal();
  let failed = 0;
  discover(
    one(
      serve(() => {
        failed++;
        others.notify();
        return new Response(null, { status: 500 });
      }),
    ),
  );
  await others.until(() => failed === 3); // so long a server that only fails is asked again and again
  const refused = { models: [], ready: false, kind: "openai", perGpu: false, refused: true } as const;
  expect([warned[0], asked, discovery.offers()]).toEqual(["it does not take the key", 1, { one: refused }]);
  discovery.restart();
  await until(() => warned.length === 2);
  expect(asked).toBe(2);
});

test("a server without a list offers LLM_MODEL", async () => {
  const url = serve(() => new Response("no", { status: 404 }));
  const { discovery, offers, until } = discover(one(url), "local-model");
  await until(() => offers.length === 1);
  expect(discovery.offers()).toEqual({ one: { models: ["local-model"], ready: true, kind: "openai", perGpu: false } });
});

test("an answer is a stranger's: odd names are left out, long, broken and redirected ones are none", async () => {
  const list = (...ids: unknown[]): Response => Response.json({ data: ids.map((id) => ({ id })) });
  const { discovery, offers, until } = discover(
    one(serve(() => list("a/b:c", "", "x y", 7, "a/b:c", "x".repeat(257)))),
  );
  await until(() => offers.length === 1);
  expect(discovery.offers().one).toMatchObject({ models: ["a/b:c"], kind: "openai" });
  const elsewhere = serve(() => list("elsewhere"));
  for (const answer of [
    () => Response.json({ data: [{ id: "long", pad: "x".repeat(2_000_000) }] }),
    () => new Response("{"),
    () => Response.json({ data: "m" }),
    () => Response.redirect(`${elsewhere}/v1/models`),
    () => new Response(null, { status: 500 }),
  ]) {
    const refused = discover(one(serve(answer)));
    await refused.until(() => refused.warned.length === 1);
    expect(refused.discovery.offers()).toEqual({});
  }
});
