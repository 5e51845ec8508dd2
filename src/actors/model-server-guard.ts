// A process between an actor and its model server, so that the server never outlives the actor, however that one ends:
// the channel to it closes with it. model-server.ts starts it with the server's command line; it ends the server and
// all that the server has started, which is a process group, and then itself. It reads and decides nothing else.

/** A server frees its GPU within it, or is killed. */
const END_MS_MAX = 10_000;

/** Resolves to the exit code of the command once it has ended. */
async function guard(command: string[]): Promise<number> {
  let pid: number | null = null;
  let ending = false;
  const signalGroup = (signal: NodeJS.Signals): void => {
    try {
      if (pid !== null) process.kill(-pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  };
  const end = (): void => {
    if (ending) return;
    ending = true;
    signalGroup("SIGTERM");
    setTimeout(() => signalGroup("SIGKILL"), END_MS_MAX);
  };
  // Before the server is there, lest a signal in between leaves it alone.
  process.on("disconnect", end);
  process.on("SIGTERM", end);
  process.on("SIGINT", end);
  if (!process.connected) return 0; // the actor has ended already
  const child = Bun.spawn(command, {
    stdio: ["ignore", "inherit", "inherit"],
    detached: true, // a group of its own, which its workers belong to as well
  });
  pid = child.pid;
  process.send?.({ type: "started", pid });
  const code = await child.exited;
  signalGroup("SIGKILL"); // workers that it has left behind hold the GPU
  return child.signalCode === null ? code : 1;
}

process.exit(await guard(process.argv.slice(2)));

export {}; // a module, for its await
