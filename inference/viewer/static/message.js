/* What the server's binary message holds: a header in JSON, then the pixels of its planes.

   Knows the layout only: a little-endian uint32 length, that many bytes of JSON, zeros up to a multiple of 8 bytes,
   and the planes, each at its byte offset from there. No pixel is copied: a plane is a view of the message. */

const ALIGNMENT = 8;
const decoder = new TextDecoder();

/* Pixels (Y, X) as uint16 values, with what makes counts of them: counts = zero + step * value. */
export class Plane {
  constructor(header, buffer, start) {
    [this.height, this.width] = header.shape_yx;
    // Every machine that runs a browser is little-endian, as the wire is.
    this.values = new Uint16Array(buffer, start + header.byte_offset, this.height * this.width);
    this.zero = header.zero_counts;
    this.step = header.counts_per_step;
    this.pixelSizeUm = header.pixel_size_um;
    this.hasNan = Boolean(header.has_nan);
  }

  /* Return the counts of a pixel; NaN where the frame has none; null outside. */
  countsAt(x, y) {
    if (x < 0 || y < 0 || x >= this.width || y >= this.height) return null;
    const value = this.values[y * this.width + x];
    return this.hasNan && value === 0 ? NaN : this.zero + this.step * value;
  }

  /* Return the smallest value that stands for at least so many counts. */
  valueOf(counts) {
    return Math.ceil((counts - this.zero) / this.step);
  }
}

/* Return the view {id, images} of a message; the planes of each image (`raw`, `enhanced` or null) are Planes. */
export function decodeView(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const view = JSON.parse(decoder.decode(new Uint8Array(buffer, 4, length)));
  const start = Math.ceil((4 + length) / ALIGNMENT) * ALIGNMENT;
  for (const image of view.images) {
    image.raw = new Plane(image.raw, buffer, start);
    image.enhanced = image.enhanced ? new Plane(image.enhanced, buffer, start) : null;
  }
  return view;
}

/* Return how many enhanced pixels stand in one raw pixel, along x: from the pixel sizes, else from the shapes. */
export function enlargement(image) {
  const { raw, enhanced } = image;
  if (!enhanced) return 1;
  if (raw.pixelSizeUm && enhanced.pixelSizeUm) return raw.pixelSizeUm / enhanced.pixelSizeUm;
  return enhanced.width / raw.width;
}
