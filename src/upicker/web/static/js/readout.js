// @ts-nocheck
/**
 * The line below the picture: scale bar, zoom, position and pixel value under the cursor.
 *
 *   const readout = new Readout(viewer, element)
 *   readout.use(info)              of the micrograph that is shown, or null
 *   readout.hover(point | null)    call from viewer.onHover
 *   readout.view()                 call from viewer.onView
 */

import { get } from "./api.js";
import { h } from "./ui.js";

const WIDEST = 140; // css px of the scale bar
const REST = 60; // ms that the pointer rests before its pixel's value is asked for

export class Readout {
  #viewer;
  #info = null;
  #timer = 0;
  #asked = null;
  #parts;

  constructor(viewer, element) {
    this.#viewer = viewer;
    const part = (this.#parts = {
      bar: h("span", { class: "scalebar" }), length: h("span", {}), zoom: h("span", { title: "Screen pixels per micrograph pixel" }),
      position: h("span", { class: "position" }), value: h("span", { class: "value" }), size: h("span", { class: "clip" }),
    });
    element.append(h("span", { class: "row tight" }, part.bar, part.length), part.zoom, part.position, part.value, h("span", { class: "grow" }), part.size);
  }

  use(info) {
    this.#info = info;
    const part = this.#parts;
    const pixel = info?.pixel_size_A ? `, ${Number(info.pixel_size_A.toPrecision(4))} Å a pixel` : ", pixel size unknown";
    part.size.textContent = info ? `${info.shape[1]} × ${info.shape[0]}${pixel}` : "";
    part.value.textContent = "";
    this.view();
  }

  view() {
    const part = this.#parts;
    const known = this.#info !== null;
    part.bar.hidden = part.length.hidden = !known;
    write(part.zoom, known ? `${Number((100 * this.#viewer.zoom).toPrecision(3))} %` : "");
    if (!known) return;
    const [pixels, text] = scale(this.#viewer.zoom, this.#info.pixel_size_A);
    const width = `${pixels.toFixed(1)}px`;
    if (part.bar.style.width !== width) part.bar.style.width = width;
    write(part.length, text);
  }

  hover(point) {
    clearTimeout(this.#timer);
    const part = this.#parts;
    const [rows, columns] = this.#info?.shape ?? [0, 0];
    const inside = point && point.x >= -0.5 && point.y >= -0.5 && point.x < columns - 0.5 && point.y < rows - 0.5;
    write(part.position, inside ? `x ${Math.round(point.x)}, y ${Math.round(point.y)}` : "");
    write(part.value, "");
    if (inside) this.#timer = setTimeout(() => this.#value(Math.round(point.x), Math.round(point.y)), REST);
  }

  async #value(x, y) {
    this.#asked?.abort();
    const asked = (this.#asked = new AbortController());
    try {
      const { value } = await get(`/api/micrographs/${this.#info.id}/value?x=${x}&y=${y}`, asked);
      if (this.#asked === asked && value !== null) this.#parts.value.textContent = `value ${Number(value.toPrecision(4))}`;
    } catch {
      // The value is a comfort: where it cannot be had, nothing is shown.
    }
  }
}

/** A text that is written is laid out again, even if it is the same. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Return length in css px and text of a scale bar: 1, 2 or 5 times a power of ten. */
function scale(zoom, pixelSize) {
  const most = (WIDEST / zoom) * (pixelSize ?? 1);
  const power = 10 ** Math.floor(Math.log10(most));
  const length = [5, 2, 1].find((digit) => digit * power <= most) * power;
  const pixels = (length / (pixelSize ?? 1)) * zoom;
  if (!pixelSize) return [pixels, `${length} px`];
  if (length >= 10000) return [pixels, `${length / 10000} µm`];
  return [pixels, length >= 10 ? `${length / 10} nm` : `${Number(length.toPrecision(1))} Å`];
}
