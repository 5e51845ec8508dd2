// The picture a task brings: its schema, and its bytes checked before anything is decoded.
export interface ImageInput {
  readonly image_url?: string;
  readonly image_base64?: string;
  readonly file_id?: string;
}

/** A picture whose format and size were read from its header and found within the limits. */
export interface DecodedImage {
  /** The file as it came. */
  readonly bytes: Uint8Array;
  readonly format: "png" | "jpeg" | "webp";
  /** Pixels, as shown (EXIF orientation applied). */
  readonly width: number;
  readonly height: number;
}
