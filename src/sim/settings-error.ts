/** A setting of the simulator, or a file that one names, which cannot be used; the text says which and why. */
export class SettingsError extends Error {
  override readonly name: string = "SettingsError";
}
