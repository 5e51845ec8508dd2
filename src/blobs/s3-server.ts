// A real S3 server for tests: s3rver, a process of its own on a free port with a temporary folder. Imported by tests
// only. It speaks multipart except for AbortMultipartUpload (405), so a test sees that a failed upload asks for its
// clean-up, and not what the server makes of it.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { S3Settings } from "./s3-client.ts";

export interface S3Server {
  readonly settings: S3Settings;
  /** Where it keeps the objects. */
  readonly dir: string;
  /** Kills the process and removes the folder. Idempotent. */
  stop(): Promise<void>;
}

export async function startS3(): Promise<S3Server> {
  const dir = await mkdtemp(join(tmpdir(), "millrace-s3-"));
  const script = Bun.fileURLToPath(import.meta.resolve("s3rver/bin/s3rver.js"));
  const child = Bun.spawn([process.execPath, script, "-d", dir, "-a", "127.0.0.1", "-p", "0", "--no-vhost-buckets"], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "ignore",
  });
  const listening = Promise.withResolvers<string>();
  // Read to its end: the server logs each request, and a closed or full pipe would end or stop it.
  const drained = (async () => {
    let output = "";
    const decoder = new TextDecoder();
    for await (const chunk of child.stdout) {
      output = (output + decoder.decode(chunk)).slice(-10_000);
      const port = /listening on 127\.0\.0\.1:(\d+)/.exec(output)?.[1];
      if (port !== undefined) listening.resolve(`http://127.0.0.1:${port}`);
    }
    listening.reject(new Error(`the S3 server ended: ${output}`));
  })();
  const stop = async (): Promise<void> => {
    child.kill("SIGKILL");
    await child.exited;
    await drained;
    await rm(dir, { recursive: true, force: true });
  };
  try {
    const endpoint = await listening.promise;
    return { settings: { endpoint, accessKey: "S3RVER", secretKey: "S3RVER", bucket: "millrace-test" }, dir, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
