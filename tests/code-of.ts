// How a test asks which of our errors a call ends in. The stores' own suite has it too, as it stands for itself.
import { asAppError } from "../src/errors.ts";

/** The code of what `call` throws; fails where it throws nothing, or something that is not ours. */
export async function codeOf(call: Promise<unknown>): Promise<string> {
  const error = await call.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  const known = asAppError(error);
  if (known === null) throw new Error("expected a failure with a code", { cause: error });
  return known.code;
}
