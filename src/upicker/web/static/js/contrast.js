/**
 * From the grey values of tiles to the screen: the window's percentiles black and white.
 *
 *   const histogram = new Histogram()     of one level of a micrograph, from some of its tiles
 *   histogram.add(grey)                   grey: Grey; only the first few count
 *   histogram.lookupTable(window)                window: {low, high (percentiles 0..100), brightness (-1..1), invert}
 *                                         -> Uint32Array(256), colours as canvases keep them; the same array as long
 *                                         as nothing has changed
 *   const grey = new Grey(image)          an ImageBitmap's values, which stay
 *   grey.rendered(table)                     -> canvas; made anew only for another table
 *   grey.release()                           drops the canvas: four bytes a pixel
 *
 * Tables instead of CSS filters: without a graphics card, a filter works on all of the window in every frame.
 */

import { context2d, h } from "./ui.js";

const SAMPLED = 4; // tiles of a level from which its histogram is taken
const SIDE = 96; // samples along a side of each of them
const NARROWEST = 2; // grey values between black and white

/**
 * Percentiles (0..100) that are black and white, brightness (-1..1).
 * @typedef {{low: number, high: number, brightness: number, invert: boolean}} Window
 */

/** @type {CanvasRenderingContext2D | null} */
let reader = null; // of a canvas from which values are read
/** @type {ImageData | null} */
let pixels = null; // to be filled, the same for all tiles of a size

export class Histogram {
  #bins = new Uint32Array(256);
  #tiles = 0;
  #known = "";
  #table = new Uint32Array(256);

  /** @param {{values: Uint8Array, width: number, height: number}} tile */
  add({ values, width, height }) {
    if (this.#tiles >= SAMPLED) return;
    this.#tiles += 1;
    // Pixels as they are, not their mean: the noise counts.
    for (let row = 0; row < SIDE; row++) {
      const start = Math.floor(((row + 0.5) * height) / SIDE) * width;
      for (let column = 0; column < SIDE; column++) this.#bins[values[start + Math.floor(((column + 0.5) * width) / SIDE)]] += 1;
    }
  }

  /** @param {Window} window */
  lookupTable({ low, high, brightness, invert }) {
    const asked = [low, high, brightness, invert, this.#tiles].join();
    if (asked === this.#known) return this.#table;
    const [black, white] = [this.#quantile(low / 100), this.#quantile(high / 100)];
    const range = Math.max(white - black, NARROWEST);
    this.#known = asked;
    this.#table = new Uint32Array(256);
    const bytes = new Uint8ClampedArray(this.#table.buffer); // rounds, and takes what lies beyond to 0 or 255
    for (let value = 0; value < 256; value++) {
      const grey = (value - black) / range + brightness;
      bytes.fill(255 * (invert ? 1 - grey : grey), 4 * value, 4 * value + 3);
      bytes[4 * value + 3] = 255;
    }
    return this.#table;
  }

  /** @param {number} fraction */
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
  /** @type {CanvasRenderingContext2D | null} */
  #context = null;
  /** @type {Uint32Array | null} */
  #table = null;

  /** @param {ImageBitmap} image */
  constructor(image) {
    this.width = image.width;
    this.height = image.height;
    reader ??= context2d(document.createElement("canvas"), { willReadFrequently: true });
    const { canvas } = reader;
    if (canvas.width < this.width || canvas.height < this.height) [canvas.width, canvas.height] = [this.width, this.height];
    reader.drawImage(image, 0, 0);
    const colours = new Uint32Array(reader.getImageData(0, 0, this.width, this.height).data.buffer);
    this.values = new Uint8Array(colours); // keeps the lowest byte: in grey images all three are the same
  }

  get isRendered() {
    return this.#context !== null;
  }

  /** @param {Uint32Array} table colours of the 256 grey values */
  rendered(table) {
    if (this.#context && table === this.#table) return this.#context.canvas;
    this.#context ??= context2d(h("canvas", { width: this.width, height: this.height }), { alpha: false });
    if (pixels?.width !== this.width || pixels.height !== this.height) pixels = new ImageData(this.width, this.height);
    const { values } = this;
    const colours = new Uint32Array(pixels.data.buffer);
    for (let index = 0; index < colours.length; index++) colours[index] = table[values[index]];
    this.#context.putImageData(pixels, 0, 0);
    this.#table = table;
    return this.#context.canvas;
  }

  release() {
    this.#context = this.#table = null;
  }
}
