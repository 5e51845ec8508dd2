// All that a plugin may import as "millrace": the one list of names, and the promise that goes with them. A name that
// stands here stays; what is not here may change with any release. Only plugins and runners import this file.
export { Type as t } from "@sinclair/typebox";
export type { FetchedBytes } from "./net/fetch-input.ts";
export { type AudioInput, audioInput, type Sound } from "./registry/audio.ts";
export {
  type AnyRunner,
  defineRunner,
  type LoadContext,
  type RunnerContext,
  type RunnerDefinition,
  RunnerError,
  type RunnerTask,
  SDK_VERSION,
} from "./registry/define.ts";
export { type FileOutput, file } from "./registry/file.ts";
export {
  type DecodedImage,
  decodePixels,
  type ImageInput,
  imageInput,
  type Pixels,
} from "./registry/image.ts";
