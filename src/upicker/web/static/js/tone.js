/**
 * How the grey values of tiles become what is seen: the window's percentiles black and white.
 *
 *   const histogram = new Histogram()     of one level of a picture, from some of its tiles
 *   histogram.add(grey)                   grey: Grey; more than a few are not looked at
 *   histogram.tone(window)                window: {low, high (percentiles 0..100), brightness (-1..1), invert}
 *                                         -> Uint32Array(256), colours as canvases keep them; the same array as long
 *                                         as nothing has changed
 *   const grey = new Grey(image)          an ImageBitmap's values, which stay
 *   grey.toned(table)                     -> canvas; made anew only for another table
 *   grey.rest()                           drops the canvas: four bytes a pixel
 *
 * Tables instead of CSS filters: without a graphics card, a filter works on all of the window in every frame.
 */

const SAMPLED = 4; // tiles of a level that its histogram is taken from
const SIDE = 96; // samples along a side of each of them
const NARROWEST = 2; // grey values between black and white

let reader = null; // a canvas from which values are read
let pixels = null; // an ImageData to be filled, the same for all tiles of a size

export class Histogram {
  #bins = new Uint32Array(256);
  #tiles = 0;
  #known = "";
  #table = null;

  add({ values, width, height }) {
    if (this.#tiles >= SAMPLED) return;
    this.#tiles += 1;
    // Pixels as they are, not their mean: the noise counts.
    for (let row = 0; row < SIDE; row++) {
      const start = Math.floor(((row + 0.5) * height) / SIDE) * width;
      for (let column = 0; column < SIDE; column++) this.#bins[values[start + Math.floor(((column + 0.5) * width) / SIDE)]] += 1;
    }
  }

  tone({ low, high, brightness, invert }) {
    const asked = [low, high, brightness, invert, this.#tiles].join();
    if (asked === this.#known) return this.#table;
    const [black, white] = [this.#quantile(low / 100), this.#quantile(high / 100)];
    const range = Math.max(white - black, NARROWEST);
    this.#known = asked;
    this.#table = new Uint32Array(256);
    const bytes = new Uint8ClampedArray(this.#table.buffer); // rounds, and takes what lies beyond to 0 or 255
    for (let value = 0; value < 256; value++) {
      const share = (value - black) / range + brightness;
      bytes.fill(255 * (invert ? 1 - share : share), 4 * value, 4 * value + 3);
      bytes[4 * value + 3] = 255;
    }
    return this.#table;
  }

  #quantile(fraction) {
    let left = fraction * this.#bins.reduce((sum, count) => sum + count, 0);
    for (let value = 0; value < this.#bins.length; value++) {
      if (this.#bins[value] >= left && this.#bins[value] > 0) return value + left / this.#bins[value];
      left -= this.#bins[value];
    }
    return this.#bins.length - 1;
  }
}

export class Grey {
  #context = null;
  #table = null;

  constructor(image) {
    [this.width, this.height] = [image.width, image.height];
    reader ??= document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const { canvas } = reader;
    if (canvas.width < this.width || canvas.height < this.height) [canvas.width, canvas.height] = [this.width, this.height];
    reader.drawImage(image, 0, 0);
    const colours = new Uint32Array(reader.getImageData(0, 0, this.width, this.height).data.buffer);
    this.values = new Uint8Array(colours); // keeps the lowest byte: in grey pictures all three are the same
  }

  get isToned() {
    return this.#context !== null;
  }

  toned(table) {
    if (table === this.#table) return this.#context.canvas;
    this.#context ??= Object.assign(document.createElement("canvas"), { width: this.width, height: this.height }).getContext("2d", { alpha: false });
    if (pixels?.width !== this.width || pixels.height !== this.height) pixels = new ImageData(this.width, this.height);
    const { values } = this;
    const colours = new Uint32Array(pixels.data.buffer);
    for (let index = 0; index < colours.length; index++) colours[index] = table[values[index]];
    this.#context.putImageData(pixels, 0, 0);
    this.#table = table;
    return this.#context.canvas;
  }

  rest() {
    this.#context = this.#table = null;
  }
}
