/**
 * The line below the micrograph: scale bar, zoom, position and pixel value under the cursor.
 *
 *   const readout = new Readout(viewer, element)
 *   readout.use(info)              of the micrograph that is shown, or null
 *   readout.hover(point | null)    call from viewer.onHover
 *   readout.view()                 call from viewer.onView
 */

import { get } from "./api.js";
import { scaleBar } from "./scalebar.js";
import { h } from "./ui.js";

const REST = 60; // ms that the pointer rests before its pixel's value is asked for

export class Readout {
  #viewer;
  /** @type {ImageInfo | null} */
  #info = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {AbortController | null} */
  #asked = null;
  #parts;

  /**
   * @param {import("./viewer.js").Viewer} viewer
   * @param {HTMLElement} element
   */
  constructor(viewer, element) {
    this.#viewer = viewer;
    this.#parts = {
      bar: h("span", { class: "scalebar" }), length: h("span", {}), zoom: h("span", { title: "Screen pixels per micrograph pixel" }),
      position: h("span", { class: "position" }), value: h("span", { class: "value" }), size: h("span", { class: "clip" }),
    };
    const part = this.#parts;
    element.append(h("span", { class: "row tight" }, part.bar, part.length), part.zoom, part.position, part.value, h("span", { class: "grow" }), part.size);
  }

  /** @param {ImageInfo | null} info */
  use(info) {
    this.#info = info;
    this.#forget();
    const part = this.#parts;
    const pixel = info?.pixel_size_A ? `, ${Number(info.pixel_size_A.toPrecision(4))} Å/pixel` : ", pixel size unknown";
    part.size.textContent = info ? `${info.shape[1]} × ${info.shape[0]}${pixel}` : "";
    this.view();
  }

  view() {
    const part = this.#parts;
    const info = this.#info;
    part.bar.hidden = part.length.hidden = !info;
    write(part.zoom, info ? `${Number((100 * this.#viewer.zoom).toPrecision(3))} %` : "");
    if (!info) return;
    const [pixels, text] = scaleBar(this.#viewer.zoom, info.pixel_size_A);
    const width = `${pixels.toFixed(1)}px`;
    if (part.bar.style.width !== width) part.bar.style.width = width;
    write(part.length, text);
  }

  /** @param {Point | null} point */
  hover(point) {
    this.#forget();
    const part = this.#parts;
    const [rows, columns] = this.#info?.shape ?? [0, 0];
    const inside = point && point.x >= -0.5 && point.y >= -0.5 && point.x < columns - 0.5 && point.y < rows - 0.5;
    write(part.position, inside ? `x ${Math.round(point.x)}, y ${Math.round(point.y)}` : "");
    if (inside) this.#timer = setTimeout(() => this.#value(Math.round(point.x), Math.round(point.y)), REST);
  }

  /** The value that is shown, or asked for, is of another pixel or another micrograph than the one under the pointer. */
  #forget() {
    clearTimeout(this.#timer);
    this.#asked?.abort();
    this.#asked = null;
    write(this.#parts.value, "");
  }

  /**
   * @param {number} x
   * @param {number} y
   */
  async #value(x, y) {
    const asked = (this.#asked = new AbortController());
    try {
      const { value } = await get(`/api/micrographs/${this.#info?.id}/value?x=${x}&y=${y}`, asked);
      if (this.#asked === asked && value !== null) this.#parts.value.textContent = `value ${Number(value.toPrecision(4))}`;
    } catch {
      // The value is a comfort: where it cannot be had, nothing is shown.
    }
  }
}

/**
 * A text that is written is laid out again, even if it is the same.
 * @param {HTMLElement} element
 * @param {string} text
 */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
