// Pictures in conversations: fetched here and sent on as data, so that a model server never follows a client's URL. The
// hosts are real servers on loopback that the configuration allows.
import { expect, test } from "bun:test";
import { join } from "node:path";
import { AppError } from "../errors.ts";
import type { LlmRequest } from "../llm/llm.ts";
import { withMedia } from "../llm/media.ts";
import { answerOf, callerOf } from "./llm-caller-fixture.ts";
import { jsonPost, otherKey, startFixture } from "./server-fixture.ts";

const picture = await Bun.file(join(import.meta.dir, "../../examples/cat.jpg")).bytes();

function startHost() {
  const asked: string[] = [];
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch(request) {
      const { pathname } = new URL(request.url);
      asked.push(pathname);
      if (pathname === "/cat.jpg") return new Response(picture);
      if (pathname === "/page") return new Response("<html>");
      if (pathname === "/inside") return Response.redirect("http://127.0.0.2:8080/");
      if (pathname === "/large") return new Response(Buffer.concat([picture, new Uint8Array(9 * 1024 * 1024)]));
      return new Response("", { status: 404 });
    },
  });
  return { host: `127.0.0.1:${server.port}`, asked, [Symbol.asyncDispose]: () => server.stop(true) };
}

const asking = (...content: object[]) => ({ model: "chat", messages: [{ role: "user", content }] });
const image = (url: string) => ({ type: "image_url", image_url: { url, detail: "low" } });
const partsOf = (request: LlmRequest | undefined): unknown => {
  if (request?.body.kind !== "json") throw new Error("no call, or a form");
  return (request.body.value.messages as { content: unknown }[]).at(-1)?.content;
};

test("a picture behind a URL goes on as data, in its place; data and text as they came", async () => {
  await using host = startHost();
  const { caller, requests } = callerOf(() => answerOf("{}"));
  await using server = await startFixture({ llm: caller, config: { fetchAllowHosts: [host.host] } });
  const url = `http://${host.host}/cat.jpg`;
  const data = "data:image/png;base64,AAAA";
  const text = { type: "text", text: "https://example.com/ is an address in words" };
  const body = asking(text, image(url), image(data), { image_url: url });
  expect((await server.send("/v1/chat/completions", jsonPost(body))).status).toBe(200);
  const inlined = `data:image/jpeg;base64,${Buffer.from(picture).toString("base64")}`;
  expect(partsOf(requests[0])).toEqual([text, image(inlined), image(data), { image_url: { url: inlined } }]);
  expect(host.asked).toEqual(["/cat.jpg", "/cat.jpg"]);
});

test("what is no public picture is the request's fault, and no server is asked", async () => {
  await using host = startHost();
  const { caller, requests } = callerOf(() => answerOf("{}"));
  await using server = await startFixture({ llm: caller, config: { fetchAllowHosts: [host.host] } });
  const at = (path: string) => `http://${host.host}${path}`;
  const rows: readonly (readonly [object, string])[] = [
    [image("http://127.0.0.1:1/x.png"), "image_url"],
    [image("http://169.254.169.254/latest/meta-data"), "image_url"],
    [image("http://localhost:8001/metrics"), "image_url"],
    [image("file:///etc/passwd"), "image_url"],
    [{ image_url: "http://[::1]/x.png" }, "image_url"],
    [{ type: "text", text: "x", image_url: "http://10.0.0.1/x.png" }, "image_url"],
    [image(at("/inside")), "image_url"],
    [image(at("/page")), "image_url"],
    [image(at("/none")), "image_url"],
    [{ type: "image_url", image_url: {} }, "image_url"],
    [{ type: "audio_url", audio_url: { url: at("/cat.jpg") } }, "audio_url"],
    [{ type: "video_url", video_url: { url: at("/cat.jpg") } }, "video_url"],
    [{ type: "file", file: { file_url: at("/cat.jpg") } }, "file"],
    [{ type: "image", source: { type: "url", url: "s3://bucket/key" } }, "source"],
    [{ type: "image_embeds", image_embeds: "AAAA" }, "image_embeds"],
  ];
  for (const [part, name] of rows) {
    const response = await server.send("/v1/chat/completions", jsonPost(asking({ type: "text", text: "" }, part)));
    const { error } = (await response.json()) as { error: { param: string; code: string } };
    expect([part, response.status, error.param]).toEqual([part, 400, `messages/0/content/1/${name}`]);
  }
  expect(requests).toEqual([]);
});

test("pictures are few and together no longer than a body", async () => {
  await using host = startHost();
  const { caller, requests } = callerOf(() => answerOf("{}"));
  await using server = await startFixture({ llm: caller, config: { fetchAllowHosts: [host.host] } });
  const send = async (path: string, count: number) => {
    const parts = Array.from({ length: count }, () => image(`http://${host.host}${path}`));
    return (await server.send("/v1/chat/completions", jsonPost(asking(...parts)))).status;
  };
  expect(await send("/cat.jpg", 16)).toBe(200);
  const before = host.asked.length;
  expect(await send("/cat.jpg", 17)).toBe(400);
  expect(host.asked.length).toBe(before);
  expect(await send("/large", 2)).toBe(400);
  expect(requests).toHaveLength(1);
  // More than a key has room for, one after the other: each gives its room back.
  for (let sent = 0; sent < 30; sent++) expect(await send("/large", 1)).toBe(200);
});

test("what is fetched takes room first", async () => {
  const reserved: number[] = [];
  const body = asking(image("https://example.com/a.jpg"));
  const parts = {
    keyId: "alice",
    fetchMedia: async () => ({ bytes: picture, contentType: "", url: "" }),
    signal: new AbortController().signal,
  };
  await withMedia(body, { ...parts, reserve: (sizeBytes) => void reserved.push(sizeBytes) });
  expect(reserved).toEqual([picture.length]);
  const full = (): never => {
    throw new AppError("not_ready", "full");
  };
  await expect(withMedia(body, { ...parts, reserve: full })).rejects.toThrow("full");
});

test("names under which a server keeps what it decoded are a key's own", async () => {
  const { caller, requests } = callerOf(() => answerOf("{}"));
  await using server = await startFixture({ llm: caller });
  const body = asking({ type: "image_url", image_url: null, uuid: "cat" });
  for (const key of [undefined, undefined, otherKey]) {
    await server.send("/v1/chat/completions", jsonPost(body, key ? { "x-api-key": key } : {}));
  }
  const names = requests.map((request) => (partsOf(request) as { uuid: string }[])[0]?.uuid);
  expect(names[0]).toBe(names[1] ?? "");
  expect(new Set([...names, "cat"]).size).toBe(3);
});
