/**
 * Tiles of a picture: which are needed, fetched in the order in which they are needed, kept, and drawn.
 *
 *   const tiles = new Tiles(changed)       changed(): something new can be drawn
 *   tiles.show(info)                       info: answer of api.picture()
 *   tiles.draw(context, view, window)      view: {zoom, x, y, width, height}: device px per raw px, the raw position in
 *                                          the middle, the canvas in device px; window: see tone.js
 *   tiles.shown                            the info of what is drawn (another than asked for while that is fetched)
 *   tiles.complete                         whether the last drawing lacked nothing
 *
 * Another view of the same micrograph takes over when all of what is visible has come; another micrograph when its
 * coarsest tile has come. So the screen is never blank.
 */

import { tileAddress } from "./api.js";
import { Grey, Histogram } from "./tone.js";

const PARALLEL = 4; // browsers open six connections to a host: two stay free for labels
const KEPT = 640; // tiles, 256 KiB each
const TONED = 256; // of these are ready to be drawn, 1 MiB each: more than the largest screens show
const TRIES = 4;

export class Tiles {
  #changed;
  #kept = new Map(); // address -> {grey | null: failed, at}
  #loading = new Map(); // address -> AbortController
  #tries = new Map(); // address -> {count, at}: of failed ones
  #wanted = [];
  #histograms = new Map(); // "id/view/level" -> Histogram
  #coming = null;
  #toned = 0;

  constructor(changed) {
    this.#changed = changed;
    this.shown = null;
    this.complete = false;
  }

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

  draw(context, view, window) {
    const wanted = [];
    if (this.#coming) {
      const { needed, base } = this.#needed(this.#coming, view);
      const wait = this.shown?.id === this.#coming.id ? [...base, ...needed] : base;
      if (wait.every((tile) => this.#kept.has(tile.address))) {
        this.shown = this.#coming;
        this.#coming = null;
      } else wanted.push(...base, ...needed);
    }
    this.complete = false;
    if (this.shown) {
      const { needed, base, level } = this.#needed(this.shown, view);
      this.complete = needed.every((tile) => this.#kept.has(tile.address));
      wanted.push(...base, ...needed);
      context.imageSmoothingEnabled = view.zoom < 6;
      const coarsest = this.complete ? level : this.shown.levels.length - 1;
      for (let each = coarsest; each >= level; each--) {
        for (const tile of each === level ? needed : visible(this.shown, each, view)) this.#paint(context, tile, view, window);
      }
    }
    if (this.#toned > TONED) this.#rest();
    this.#want(wanted);
  }

  #needed(info, view) {
    const level = levelFor(info, view.zoom);
    const needed = visible(info, level, view);
    const middle = (tile) => Math.hypot((tile.left + tile.right) / 2 - view.x, (tile.top + tile.bottom) / 2 - view.y);
    needed.sort((a, b) => middle(a) - middle(b));
    return { needed, level, base: [tileAt(info, info.levels.length - 1, 0, 0)] };
  }

  #paint(context, tile, view, window) {
    const entry = this.#kept.get(tile.address);
    if (!entry?.grey) return;
    entry.at = performance.now();
    if (!entry.grey.isToned) this.#toned += 1;
    const image = entry.grey.toned(this.#histograms.get(nameOf(tile.info, tile.level)).tone(window));
    // Edges on whole device pixels: neighbours meet without a seam.
    const x = (raw) => Math.round((raw - view.x) * view.zoom + view.width / 2);
    const y = (raw) => Math.round((raw - view.y) * view.zoom + view.height / 2);
    context.drawImage(image, x(tile.left), y(tile.top), x(tile.right) - x(tile.left), y(tile.bottom) - y(tile.top));
  }

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
      if (error.name !== "AbortError") this.#failed(tile.address);
    } finally {
      this.#loading.delete(tile.address);
      this.#changed();
    }
  }

  /** A tile that did not come is asked for again, later and later; then its place stays coarse. */
  #failed(address) {
    const count = (this.#tries.get(address)?.count ?? 0) + 1;
    const wait = 400 * 3 ** (count - 1);
    this.#tries.set(address, { count: count >= TRIES ? 0 : count, at: performance.now() + wait });
    if (count >= TRIES) {
      this.#kept.set(address, { grey: null, at: performance.now() });
      setTimeout(() => this.#kept.get(address)?.grey === null && this.#kept.delete(address) && this.#changed(), wait);
    } else setTimeout(() => this.#changed(), wait + 10);
  }

  #keep(tile, grey) {
    const key = nameOf(tile.info, tile.level);
    if (!this.#histograms.has(key)) this.#histograms.set(key, new Histogram());
    this.#histograms.get(key).add(grey);
    this.#kept.set(tile.address, { grey, at: performance.now() });
    if (this.#kept.size <= KEPT) return;
    for (const [address, entry] of this.#oldest().slice(0, KEPT / 8)) {
      if (entry.grey?.isToned) this.#toned -= 1;
      this.#kept.delete(address);
    }
  }

  #rest() {
    const toned = this.#oldest().filter(([, { grey }]) => grey?.isToned);
    for (const [, { grey }] of toned.slice(0, TONED / 4)) grey.rest();
    this.#toned -= TONED / 4;
  }

  #oldest() {
    return [...this.#kept].sort((a, b) => a[1].at - b[1].at);
  }
}

function same(one, other) {
  return one.id === other.id && one.view === other.view && one.version === other.version;
}

function nameOf(info, level) {
  return `${info.id}/${info.view}/${info.version}/${level}`;
}

/** The coarsest level whose pixels are not much larger than the screen's. */
function levelFor(info, zoom) {
  let level = 0;
  while (level + 1 < info.levels.length && info.levels[level + 1].scale * zoom <= 1.25) level++;
  return level;
}

/** One tile: its address, and its edges in raw pixels; (0, 0) is the centre of the first one. */
function tileAt(info, level, column, row) {
  const { shape, scale } = info.levels[level];
  const edge = (pixel, most) => Math.min(pixel, most) * scale - 0.5; // the last pixel may reach beyond the micrograph
  return {
    info, level, address: tileAddress(info, level, column, row),
    left: edge(column * info.tile, shape[1]),
    right: edge((column + 1) * info.tile, shape[1]),
    top: edge(row * info.tile, shape[0]),
    bottom: edge((row + 1) * info.tile, shape[0]),
  };
}

function visible(info, level, view) {
  const { shape, scale } = info.levels[level];
  const side = info.tile * scale;
  const half = [view.width / 2 / view.zoom, view.height / 2 / view.zoom];
  const clamp = (value, most) => Math.min(Math.max(Math.floor(value), 0), most);
  const columns = Math.ceil(shape[1] / info.tile) - 1;
  const rows = Math.ceil(shape[0] / info.tile) - 1;
  const tiles = [];
  if (view.x + half[0] < -0.5 || view.y + half[1] < -0.5 || view.x - half[0] > info.shape[1] || view.y - half[1] > info.shape[0]) return tiles;
  for (let row = clamp((view.y - half[1] + 0.5) / side, rows); row <= clamp((view.y + half[1] + 0.5) / side, rows); row++) {
    for (let column = clamp((view.x - half[0] + 0.5) / side, columns); column <= clamp((view.x + half[0] + 0.5) / side, columns); column++) {
      tiles.push(tileAt(info, level, column, row));
    }
  }
  return tiles;
}
