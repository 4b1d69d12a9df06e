/**
 * Tiles of a micrograph: fetched in the order in which they are needed, kept, and drawn.
 *
 *   const tiles = new Tiles(changed)       changed(): something new can be drawn
 *   tiles.show(info)                       info: response of api.picture()
 *   tiles.draw(context, view, window)      view: {zoom, x, y, width, height}: device px per raw px, the raw position in
 *                                          the middle, the canvas in device px; window: see contrast.js
 *   tiles.shown                            the info of what is drawn (another than asked for while that is fetched)
 *   tiles.complete                         whether the last drawing lacked nothing
 *
 * Another view of the same micrograph takes over when all of what is visible has come; another micrograph when its
 * coarsest tile has come. So the screen is never blank.
 */

import { failure } from "./api.js";
import { levelName, needed, same, visible } from "./pyramid.js";
import { Grey, Histogram } from "./contrast.js";

const PARALLEL = 4; // browsers open six connections to a host: two stay free for labels
const KEPT = 640; // tiles, 256 KiB each
const RENDERED = 256; // of these are ready to be drawn, 1 MiB each: more than the largest screens show
const TRIES = 4;

/**
 * @typedef {import("./pyramid.js").Tile} Tile
 * @typedef {import("./pyramid.js").View} View
 * @typedef {import("./contrast.js").Window} Window
 */

export class Tiles {
  #changed;
  /** @type {Map<string, {grey: Grey | null, at: number}>} by address; null: it could not be fetched */
  #kept = new Map();
  /** @type {Map<string, AbortController>} by address */
  #loading = new Map();
  /** @type {Map<string, {count: number, at: number}>} failed ones: how often, and when to try again */
  #tries = new Map();
  /** @type {Tile[]} */
  #wanted = [];
  /** @type {Map<string, Histogram>} by `levelName` */
  #histograms = new Map();
  /** @type {ImageInfo | null} */
  #coming = null;
  #rendered = 0;

  /** @param {() => void} changed */
  constructor(changed) {
    this.#changed = changed;
    /** @type {ImageInfo | null} */
    this.shown = null;
    this.complete = false;
  }

  /** @param {ImageInfo | null} info */
  show(info) {
    if (this.shown && info && same(info, this.shown)) {
      this.shown = info;
      this.#coming = null;
    } else {
      this.#coming = info;
      if (!info) this.shown = null;
    }
    this.#changed();
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {View} view
   * @param {Window} window
   */
  draw(context, view, window) {
    /** @type {Tile[]} */
    const wanted = [];
    if (this.#coming) {
      const { tiles, base } = needed(this.#coming, view);
      const wait = this.shown?.id === this.#coming.id ? [base, ...tiles] : [base];
      if (wait.every((tile) => this.#kept.has(tile.address))) {
        this.shown = this.#coming;
        this.#coming = null;
      } else wanted.push(base, ...tiles);
    }
    this.complete = false;
    if (this.shown) {
      const { tiles, base, level } = needed(this.shown, view);
      this.complete = tiles.every((tile) => this.#kept.has(tile.address));
      wanted.push(base, ...tiles);
      context.imageSmoothingEnabled = view.zoom < 6;
      const coarsest = this.complete ? level : this.shown.levels.length - 1;
      for (let each = coarsest; each >= level; each--) {
        for (const tile of each === level ? tiles : visible(this.shown, each, view)) this.#paint(context, tile, view, window);
      }
    }
    if (this.#rendered > RENDERED) this.#releaseOldest();
    this.#want(wanted);
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Tile} tile
   * @param {View} view
   * @param {Window} window
   */
  #paint(context, tile, view, window) {
    const entry = this.#kept.get(tile.address);
    if (!entry?.grey) return;
    entry.at = performance.now();
    if (!entry.grey.isRendered) this.#rendered += 1;
    const histogram = this.#histograms.get(levelName(tile.info, tile.level));
    if (!histogram) return;
    const image = entry.grey.rendered(histogram.lookupTable(window));
    // Edges on whole device pixels: neighbours meet without a seam.
    /** @param {number} raw */
    const x = (raw) => Math.round((raw - view.x) * view.zoom + view.width / 2);
    /** @param {number} raw */
    const y = (raw) => Math.round((raw - view.y) * view.zoom + view.height / 2);
    context.drawImage(image, x(tile.left), y(tile.top), x(tile.right) - x(tile.left), y(tile.bottom) - y(tile.top));
  }

  /** @param {Tile[]} tiles */
  #want(tiles) {
    this.#wanted = tiles.filter((tile) => !this.#kept.has(tile.address));
    const addresses = new Set(this.#wanted.map((tile) => tile.address));
    for (const [address, controller] of this.#loading) {
      if (!addresses.has(address)) controller.abort();
    }
    this.#fetchMore();
  }

  #fetchMore() {
    const now = performance.now();
    for (const tile of this.#wanted) {
      if (this.#loading.size >= PARALLEL) return;
      const waits = (this.#tries.get(tile.address)?.at ?? 0) > now;
      if (!waits && !this.#loading.has(tile.address) && !this.#kept.has(tile.address)) this.#fetch(tile);
    }
  }

  /** @param {Tile} tile */
  async #fetch(tile) {
    const controller = new AbortController();
    this.#loading.set(tile.address, controller);
    try {
      const response = await fetch(tile.address, { signal: controller.signal, credentials: "same-origin" });
      if (!response.ok) throw new Error(`status ${response.status}`);
      const image = await createImageBitmap(await response.blob());
      this.#tries.delete(tile.address);
      this.#keep(tile, new Grey(image));
      image.close();
    } catch (error) {
      if (failure(error).name !== "AbortError") this.#failed(tile.address);
    } finally {
      this.#loading.delete(tile.address);
      this.#changed();
    }
  }

  /**
   * A tile that did not come is asked for again, later and later; then its place stays coarse.
   * @param {string} address
   */
  #failed(address) {
    const count = (this.#tries.get(address)?.count ?? 0) + 1;
    const wait = 400 * 3 ** (count - 1);
    this.#tries.set(address, { count: count >= TRIES ? 0 : count, at: performance.now() + wait });
    if (count >= TRIES) {
      this.#kept.set(address, { grey: null, at: performance.now() });
      setTimeout(() => {
        if (this.#kept.get(address)?.grey !== null) return;
        this.#kept.delete(address);
        this.#changed();
      }, wait);
    } else setTimeout(() => this.#changed(), wait + 10);
  }

  /**
   * @param {Tile} tile
   * @param {Grey} grey
   */
  #keep(tile, grey) {
    const key = levelName(tile.info, tile.level);
    const histogram = this.#histograms.get(key) ?? new Histogram();
    this.#histograms.set(key, histogram);
    histogram.add(grey);
    this.#kept.set(tile.address, { grey, at: performance.now() });
    if (this.#kept.size <= KEPT) return;
    for (const [address, entry] of this.#oldest().slice(0, KEPT / 8)) {
      if (entry.grey?.isRendered) this.#rendered -= 1;
      this.#kept.delete(address);
    }
  }

  #releaseOldest() {
    const toned = this.#oldest().filter(([, { grey }]) => grey?.isRendered);
    for (const [, { grey }] of toned.slice(0, RENDERED / 4)) grey?.release();
    this.#rendered -= RENDERED / 4;
  }

  #oldest() {
    return [...this.#kept].sort((a, b) => a[1].at - b[1].at);
  }
}
