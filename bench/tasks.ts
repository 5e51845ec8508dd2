// The task benchmark: `bun run bench:tasks`. Starts Millrace with a fresh data folder, with DURABILITY=fast and as it
// comes, loads it over HTTP, and prints one JSON line for each and the tables. Takes the options of compare.ts.
import { compare } from "./compare.ts";

await compare(process.argv.slice(2), { rounds: "1", only: "ours-fast,ours", json: true });
