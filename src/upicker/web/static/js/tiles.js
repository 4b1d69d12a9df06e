/**
 * Tiles of a picture: which are needed, fetched in the order in which they are needed, kept, and drawn.
 *
 *   const tiles = new Tiles(changed)       changed(): something new can be drawn
 *   tiles.show(info)                       info: answer of api.picture()
 *   tiles.draw(context, view)              view: {zoom, x, y, width, height}: device px per raw px, the raw position in
 *                                          the middle, the canvas in device px
 *   tiles.shown                            the info of what is drawn (another than asked for while that is fetched)
 *   tiles.complete                         whether the last drawing lacked nothing
 *   tiles.percentile(fraction)             grey value 0..255 below which that fraction of the pixels drawn lies
 *
 * Another view of the same micrograph takes over when all of what is visible has come; another micrograph when its
 * coarsest tile has come. So the screen is never blank.
 */

import { tileAddress } from "./api.js";

const PARALLEL = 4; // browsers open six connections to a host: two stay free for labels
const KEPT = 320; // tiles, 1 MiB each
const TRIES = 4;
const SAMPLED = 4; // tiles of a level that its histogram is taken from
const SIDE = 96; // samples along a side of each of them

export class Tiles {
  #changed;
  #kept = new Map(); // address -> {image | null: failed, at}
  #loading = new Map(); // address -> AbortController
  #tries = new Map(); // address -> {count, at}: of failed ones
  #wanted = [];
  #histograms = new Map(); // "id/view/level" -> {bins, tiles}
  #coming = null;
  #sampler = null;

  constructor(changed) {
    this.#changed = changed;
    this.shown = null;
    this.complete = false;
    this.level = 0;
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

  draw(context, view) {
    const wanted = [];
    if (this.#coming) {
      const { needed, base } = this.#needed(this.#coming, view);
      const wait = this.shown?.id === this.#coming.id ? [...base, ...needed] : base;
      if (wait.every((tile) => this.#kept.has(tile.address))) {
        this.shown = this.#coming;
        this.#coming = null;
      } else wanted.push(...base, ...needed);
    }
    context.clearRect(0, 0, view.width, view.height);
    this.complete = false;
    if (this.shown) {
      const { needed, base, level } = this.#needed(this.shown, view);
      this.level = level;
      this.complete = needed.every((tile) => this.#kept.has(tile.address));
      wanted.push(...base, ...needed);
      context.imageSmoothingEnabled = view.zoom < 6;
      context.imageSmoothingQuality = "medium";
      const coarsest = this.complete ? level : this.shown.levels.length - 1;
      for (let each = coarsest; each >= level; each--) {
        for (const tile of each === level ? needed : visible(this.shown, each, view)) this.#paint(context, tile, view);
      }
    }
    this.#want(wanted);
  }

  percentile(fraction) {
    if (!this.shown) return null;
    for (let level = this.level; level < this.shown.levels.length; level++) {
      const found = this.#histograms.get(nameOf(this.shown, level));
      if (found) return quantile(found.bins, fraction);
    }
    return null;
  }

  #needed(info, view) {
    const level = levelFor(info, view.zoom);
    const needed = visible(info, level, view);
    const middle = (tile) => Math.hypot((tile.left + tile.right) / 2 - view.x, (tile.top + tile.bottom) / 2 - view.y);
    needed.sort((a, b) => middle(a) - middle(b));
    return { needed, level, base: [tileAt(info, info.levels.length - 1, 0, 0)] };
  }

  #paint(context, tile, view) {
    const entry = this.#kept.get(tile.address);
    if (!entry?.image) return;
    entry.at = performance.now();
    // Edges on whole device pixels: neighbours meet without a seam.
    const x = (raw) => Math.round((raw - view.x) * view.zoom + view.width / 2);
    const y = (raw) => Math.round((raw - view.y) * view.zoom + view.height / 2);
    context.drawImage(entry.image, x(tile.left), y(tile.top), x(tile.right) - x(tile.left), y(tile.bottom) - y(tile.top));
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
      this.#sample(tile, image);
      this.#keep(tile.address, image);
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
      this.#kept.set(address, { image: null, at: performance.now() });
      setTimeout(() => this.#kept.get(address)?.image === null && this.#kept.delete(address) && this.#changed(), wait);
    } else setTimeout(() => this.#changed(), wait + 10);
  }

  #keep(address, image) {
    this.#kept.set(address, { image, at: performance.now() });
    if (this.#kept.size <= KEPT) return;
    const oldest = [...this.#kept].sort((a, b) => a[1].at - b[1].at).slice(0, KEPT / 8);
    for (const [each, entry] of oldest) {
      entry.image?.close();
      this.#kept.delete(each);
    }
  }

  #sample(tile, image) {
    const key = nameOf(tile.info, tile.level);
    const found = this.#histograms.get(key) ?? { bins: new Uint32Array(256), tiles: 0 };
    if (found.tiles >= SAMPLED) return;
    this.#histograms.set(key, found);
    found.tiles += 1;
    this.#sampler ??= Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE }).getContext("2d", { willReadFrequently: true });
    this.#sampler.imageSmoothingEnabled = false; // pixels as they are, not their mean: the noise counts
    this.#sampler.drawImage(image, 0, 0, SIDE, SIDE);
    const pixels = this.#sampler.getImageData(0, 0, SIDE, SIDE).data;
    for (let index = 0; index < pixels.length; index += 4) found.bins[pixels[index]] += 1;
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

function quantile(bins, fraction) {
  const total = bins.reduce((sum, count) => sum + count, 0);
  let left = fraction * total;
  for (let value = 0; value < bins.length; value++) {
    if (bins[value] >= left && bins[value] > 0) return value + left / bins[value];
    left -= bins[value];
  }
  return bins.length - 1;
}
