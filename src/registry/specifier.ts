// Makes `import … from "millrace"` work in a plugins folder outside the repository, where no package of that name can
// be found. Called once by a composition root, before plugins are imported; inside the repository the package's own
// name resolves to the same modules.
import { plugin } from "bun";

type Module = Record<string, unknown>;

/** Registers a module for each specifier, read when first imported. */
export function installModules(modules: Readonly<Record<string, () => Promise<Module>>>): void {
  void plugin({
    name: "millrace",
    setup(build) {
      for (const [specifier, read] of Object.entries(modules)) {
        build.module(specifier, async () => ({ loader: "object", exports: { ...(await read()) } }));
      }
    },
  });
}
