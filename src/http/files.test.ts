// Files through the real server, the real database and a real folder of objects.
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { forEachDatabase } from "../../tests/databases.ts";
import type { Blobs } from "../blobs/blobs.ts";
import { folderBlobs } from "../blobs/folder.ts";
import { userFileKey } from "../blobs/user-file.ts";
import { type Db, openKept } from "../db/db.ts";
import { createFiles, type Files } from "../files/files.ts";
import { type Fixture, otherKey, startFixture, testKey } from "./server-fixture.ts";

const DAY_MS = 86_400_000;

forEachDatabase((databases) => {
  let folder: string;
  let db: Db;
  let blobs: Blobs;
  let files: Files;
  let server: Fixture;
  let now = Date.parse("2026-11-21T10:00:00Z");

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "millrace-files-"));
    db = await openKept(await databases.empty());
    blobs = folderBlobs(join(folder, "blobs"));
    await blobs.ready();
    const clock = { now: () => now++, monotonicMs: () => now };
    files = createFiles({ sql: db.sql, blobs, clock, historyTtlMs: 30 * DAY_MS });
  });
  beforeEach(async () => {
    server = await startFixture({ blobs, files });
  });
  afterEach(async () => {
    await server[Symbol.asyncDispose]();
    await db.sql`DELETE FROM files`;
  });
  afterAll(async () => {
    await db.close();
    await rm(folder, { recursive: true, force: true });
  });

  function form(fields: Record<string, string>, content = "hello", filename = "a.txt"): FormData {
    const data = new FormData();
    for (const [name, value] of Object.entries(fields)) data.append(name, value);
    data.append("file", new File([content], filename, { type: "text/plain" }));
    return data;
  }

  const upload = (body: FormData, headers: Record<string, string> = {}): Promise<Response> =>
    server.send("/v1/files", { method: "POST", body, headers });

  async function uploaded(content = "hello", filename = "a.txt"): Promise<{ id: string; [field: string]: unknown }> {
    const response = await upload(form({ purpose: "vision" }, content, filename));
    expect(response.status).toBe(200);
    return (await response.json()) as { id: string };
  }

  const errorOf = async (response: Response): Promise<{ status: number; code: string; param: string | null }> => {
    const { error } = (await response.json()) as { error: { code: string; param: string | null } };
    return { status: response.status, code: error.code, param: error.param };
  };

  test("uploaded, described, listed, fetched whole and in part, deleted", async () => {
    const file = await uploaded("hello", "grüße (1).txt");
    expect(file).toEqual({
      id: expect.stringMatching(/^file-[0-7][0-9a-hjkmnp-tv-z]{25}$/),
      object: "file",
      bytes: 5,
      created_at: expect.any(Number),
      expires_at: Number(file.created_at) + 30 * 86_400,
      filename: "grüße (1).txt",
      purpose: "vision",
      status: "processed",
    });
    expect(await (await server.send(`/v1/files/${file.id}`)).json()).toEqual(file);
    const list = await (await server.send("/v1/files")).json();
    expect(list).toEqual({ object: "list", data: [file], first_id: file.id, last_id: file.id, has_more: false });

    const content = await server.send(`/v1/files/${file.id}/content`);
    expect(await content.text()).toBe("hello");
    expect(content.headers.get("content-disposition")).toBe(
      `attachment; filename="gr__e _1_.txt"; filename*=UTF-8''gr%C3%BC%C3%9Fe%20%281%29.txt`,
    );
    expect(content.headers.get("content-security-policy")).toStartWith("sandbox");
    const part = await server.send(`/v1/files/${file.id}/content`, { headers: { range: "bytes=1-2" } });
    expect([part.status, await part.text()]).toEqual([206, "el"]);

    const gone = await server.send(`/v1/files/${file.id}`, { method: "DELETE" });
    expect(await gone.json()).toEqual({ id: file.id, object: "file", deleted: true });
    expect(await errorOf(await server.send(`/v1/files/${file.id}/content`))).toMatchObject({
      status: 404,
      code: "file_not_found",
    });
    expect(await blobs.stat(userFileKey("alice", file.id))).toBeNull();
  });

  test("a file of another key does not exist", async () => {
    const { id } = await uploaded();
    const headers = { "x-api-key": otherKey };
    for (const [path, method] of [
      [`/v1/files/${id}`, "GET"],
      [`/v1/files/${id}/content`, "GET"],
      [`/v1/files/${id}`, "DELETE"],
    ] as const) {
      expect(await errorOf(await server.send(path, { method, headers }))).toMatchObject({ status: 404 });
    }
    expect(await (await server.send("/v1/files", { headers })).json()).toMatchObject({ data: [] });
    expect((await server.send(`/v1/files/${id}`)).status).toBe(200);
  });

  test("pages meet every file once, in both orders, while others arrive", async () => {
    const ids: string[] = [];
    for (let i = 0; i < 5; i++) ids.push((await uploaded(String(i))).id);
    for (const [order, expected] of [
      ["asc", ids],
      ["desc", ids.toReversed()],
    ] as const) {
      const seen: string[] = [];
      for (let after = ""; ; ) {
        const response = await server.send(`/v1/files?order=${order}&limit=2${after}`);
        const page = (await response.json()) as { data: { id: string }[]; has_more: boolean; last_id: string };
        seen.push(...page.data.map(({ id }) => id));
        if (!page.has_more) break;
        after = `&after=${page.last_id}`;
      }
      expect(seen).toEqual([...expected]);
    }
  });

  test("one whose time is over does not exist, and the sweep takes its bytes", async () => {
    const fields = { purpose: "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "3600" };
    const { id } = (await (await upload(form(fields))).json()) as { id: string };
    const stays = await uploaded();
    now += 3_600_000;
    expect((await server.send(`/v1/files/${id}`)).status).toBe(404);
    expect(await blobs.stat(userFileKey("alice", id))).not.toBeNull();
    const signal = new AbortController().signal;
    expect(await files.sweep(signal)).toBe(1);
    expect(await blobs.stat(userFileKey("alice", id))).toBeNull();
    expect((await server.send(`/v1/files/${stays.id}/content`)).status).toBe(200);
  });

  test("bytes whose upload died before its row go after a day, and no others", async () => {
    const stays = await uploaded();
    const content = new Blob(["lost"]).stream();
    const { id } = await files.receive({ keyId: "alice" }, content, "text/plain");
    const key = userFileKey("alice", id);
    const signal = new AbortController().signal;
    now = Date.now();
    expect(await files.sweep(signal)).toBe(0);
    expect(await blobs.stat(key)).not.toBeNull();
    now += DAY_MS + 1_000;
    await files.sweep(signal);
    expect(await blobs.stat(key)).toBeNull();
    expect(await blobs.stat(userFileKey("alice", stays.id))).not.toBeNull();
  });

  test.each([
    ["no purpose", form({}), "purpose"],
    ["an unknown purpose", form({ purpose: "fun" }), "purpose"],
    ["an unknown field", form({ purpose: "vision", color: "red" }), "color"],
    ["a filename of control characters", form({ purpose: "vision" }, "x", "a\u0007b"), "file"],
    [
      "an expiry without anchor",
      form({ purpose: "vision", "expires_after[seconds]": "3600" }),
      "expires_after[anchor]",
    ],
    [
      "an expiry too soon",
      form({ purpose: "vision", "expires_after[anchor]": "created_at", "expires_after[seconds]": "59" }),
      "expires_after[seconds]",
    ],
  ] as const)("refused and not kept: %s", async (_name, body, param) => {
    const objects = (): string[] => [...new Bun.Glob("**/*").scanSync({ cwd: join(folder, "blobs") })].sort();
    const before = objects();
    expect(await errorOf(await upload(body))).toEqual({ status: 400, code: "invalid_request", param });
    expect(await (await server.send("/v1/files")).json()).toMatchObject({ data: [] });
    expect(objects()).toEqual(before);
  });

  test("a form without a file, with two, with another part, cut short, of another type", async () => {
    const none = new FormData();
    none.append("purpose", "vision");
    expect(await errorOf(await upload(none))).toMatchObject({ status: 400 });
    const two = form({ purpose: "vision" });
    two.append("file", new File(["x"], "b.txt"));
    expect(await errorOf(await upload(two))).toMatchObject({ status: 400 });
    const other = new FormData();
    other.append("document", new File(["x"], "b.txt"));
    expect(await errorOf(await upload(other))).toMatchObject({ status: 400 });
    const raw = (body: string, type: string): Promise<Response> =>
      server.send("/v1/files", { method: "POST", body, headers: { "content-type": type } });
    const cut = '--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nhalf';
    expect(await errorOf(await raw(cut, "multipart/form-data; boundary=b"))).toMatchObject({ status: 400 });
    const long = await raw("--b--", `multipart/form-data; boundary=${"b".repeat(300)}`);
    expect(await errorOf(long)).toMatchObject({ status: 400 });
    expect(await errorOf(await raw("{}", "application/json"))).toMatchObject({ status: 415 });
    expect(await errorOf(await raw("", "multipart/form-data"))).toMatchObject({ status: 415 });
    const unkeyed = await fetch(`${server.url}/v1/files`, { method: "POST", body: form({ purpose: "vision" }) });
    expect(await errorOf(unkeyed)).toMatchObject({ status: 401, code: "invalid_api_key" });
  });

  test("a page after what is no file, or of no purpose, is refused before any database sees it", async () => {
    for (const param of ["after", "purpose"]) {
      for (const value of ["%00", "file-x"]) {
        const answer = await errorOf(await server.send(`/v1/files?${param}=${value}`));
        expect(answer).toEqual({ status: 400, code: "invalid_request", param });
      }
    }
  });

  test("a key whose uploads do not end leaves places to the others", async () => {
    const full = Promise.withResolvers<void>();
    const end = Promise.withResolvers<void>();
    let arrived = 0;
    await using slow = await startFixture({
      files: {
        ...files,
        async receive(owner, content, contentType) {
          if (++arrived === 8) full.resolve();
          if (owner.keyId === "alice") await end.promise;
          return files.receive(owner, content, contentType);
        },
      },
    });
    const send = (key: string): Promise<Response> =>
      slow.send("/v1/files", { method: "POST", body: form({ purpose: "vision" }), headers: { "x-api-key": key } });
    const uploads = Array.from({ length: 8 }, () => send(testKey));
    await full.promise;
    expect(await errorOf(await send(testKey))).toMatchObject({ status: 503, code: "too_many_uploads" });
    expect((await send(otherKey)).status).toBe(200);
    end.resolve();
    for (const response of await Promise.all(uploads)) expect(response.status).toBe(200);
    expect((await send(testKey)).status).toBe(200);
  });

  test("a database that does not take the row leaves no bytes behind", async () => {
    await using broken = await startFixture({ files: { ...files, keep: () => Promise.reject(new Error("no table")) } });
    const before = await Array.fromAsync(blobs.list("files/"));
    const response = await broken.send("/v1/files", { method: "POST", body: form({ purpose: "vision" }) });
    expect(await errorOf(response)).toMatchObject({ status: 500, code: "internal" });
    expect(await Array.fromAsync(blobs.list("files/"))).toEqual(before);
  });

  test("a store that fails fails the upload, and the connection goes on", async () => {
    await using broken = await startFixture({
      files: createFiles({
        sql: db.sql,
        blobs: { ...blobs, put: () => Promise.reject(new Error("no disk")) },
        clock: { now: () => now, monotonicMs: () => now },
        historyTtlMs: DAY_MS,
      }),
    });
    const body = form({ purpose: "vision" }, "x".repeat(2_000_000));
    const response = await broken.send("/v1/files", { method: "POST", body });
    expect(await errorOf(response)).toMatchObject({ status: 500, code: "internal" });
    expect((await broken.send("/v1/files")).status).toBe(200);
  });
});
