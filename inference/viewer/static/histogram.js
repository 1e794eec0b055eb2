/* How many pixels of a plane have each value, and which counts its percentiles are.

   Counts all 65,536 values exactly, in one buffer that is kept; knows no screen. */

const VALUES = 65536;

export class Histogram {
  constructor() {
    this.pixels = new Uint32Array(VALUES);
    this.clear();
  }

  clear() {
    this.total = 0;
    this.zero = 0;
    this.step = 1;
  }

  /* Count the pixels of a plane; pixels without a number are left out. */
  measure(plane) {
    const { pixels } = this;
    const { values } = plane;
    pixels.fill(0);
    for (let index = 0; index < values.length; index++) pixels[values[index]]++;
    if (plane.hasNan) pixels[0] = 0;
    this.total = plane.hasNan ? pixels.reduce((sum, number) => sum + number, 0) : values.length;
    this.zero = plane.zero;
    this.step = plane.step;
  }

  counts(value) {
    return this.zero + this.step * value;
  }

  /* Return the smallest counts that at least this part of the pixels do not exceed. */
  percentile(part) {
    const wanted = Math.max(part * this.total, 1);
    let sum = 0;
    for (let value = 0; value < VALUES; value++) {
      sum += this.pixels[value];
      if (sum >= wanted) return this.counts(value);
    }
    return this.counts(0);
  }

  /* Fill `density` with the pixels per count in equal bins from counts `from` to counts `to`; returns its maximum.
     A bin narrower than a value shows the value it lies in, so that no comb appears. */
  bin(density, from, to) {
    const width = (to - from) / density.length;
    let most = 0;
    for (let bin = 0; bin < density.length; bin++) {
      const first = Math.floor((from + bin * width - this.zero) / this.step);
      const end = Math.max(Math.floor((from + (bin + 1) * width - this.zero) / this.step), first + 1);
      let sum = 0;
      for (let value = Math.max(first, 0); value < Math.min(end, VALUES); value++) sum += this.pixels[value];
      density[bin] = sum / ((end - first) * this.step); // per count, whatever the steps in which a plane travels
      most = Math.max(most, density[bin]);
    }
    return most;
  }
}
