// Preloaded by `bun test` (bunfig.toml): what the files of a run shared is stopped after the last of them.
import { afterAll } from "bun:test";
import { stopSharedPostgres } from "./postgres.ts";

afterAll(stopSharedPostgres);
