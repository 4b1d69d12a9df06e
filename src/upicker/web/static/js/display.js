/**
 * The panel that sets how the micrograph is shown: contrast, low-pass, the model's own view.
 *
 *   const display = new Display(viewer, {onView, onError})   onView(view): another one is wanted: fetch and show it
 *   display.element                                        to be put into a panel
 *   display.view                                           "raw" | "lowpass-8px" | "prepared"
 *   display.use(info)                                      pixel size and diameter of the micrograph that is shown
 *   display.toggle("invert" | "lowpass" | "prepared"), display.reset()
 *   display.settle(view)                                   take a view, without calling onView: another one failed
 */

import { check, h, later, remember, segmented, slider } from "./ui.js";

const STEPS = 24; // cut-offs, so that the server keeps what it filtered
const FINEST_PX = 2;
const COARSEST_PX = 64;
const QUIET = 150; // ms
const PLAIN = { low: 0.5, high: 99.5, brightness: 0, invert: false };

/** @typedef {{kind: ReturnType<typeof segmented>, cutoff: Slider, low: Slider, high: Slider, brightness: Slider, invert: ReturnType<typeof check>}} Parts */
/** @typedef {ReturnType<typeof slider>} Slider */

export class Display {
  #viewer;
  #onView;
  /** @type {number | null} */
  #pixelSize = null;
  /** @type {Parts | undefined} */
  #built; // undefined while the parts are made, which ask for their texts

  /**
   * @param {import("./viewer.js").Viewer} viewer
   * @param {{onView: (view: string) => void}} hooks
   */
  constructor(viewer, { onView }) {
    this.#viewer = viewer;
    this.#onView = onView;
    const stored = { ...PLAIN, kind: "raw", cutoff: 12, ...(remember("display") ?? {}) };
    /** @type {(change: () => Partial<import("./contrast.js").Window>) => () => void} */
    const window = (change) => () => {
      viewer.setWindow(change());
      this.#keep();
    };
    const show = later(() => this.#onView(this.view), QUIET);
    /** @param {number} value */
    const percent = (value) => `${value.toFixed(1)} %`;
    /** @type {Parts} */
    const part = {
      kind: segmented({
        text: "Show", name: "view", value: stored.kind, options: [["raw", "raw"], ["lowpass", "low-pass"], ["prepared", "model's view"]],
        change: () => this.#changed(),
      }),
      cutoff: slider({
        text: "Low-pass", min: 0, max: STEPS, step: 1, value: stored.cutoff, show: () => this.cutoffText,
        input: () => {
          if (part.kind.value !== "lowpass") part.kind.value = "lowpass";
          this.#keep();
          show();
        },
      }),
      low: slider({ text: "Black below", min: 0, max: 25, step: 0.1, value: stored.low, show: percent, input: window(() => ({ low: part.low.value })) }),
      high: slider({ text: "White above", min: 75, max: 100, step: 0.1, value: stored.high, show: percent, input: window(() => ({ high: part.high.value })) }),
      brightness: slider({
        text: "Brightness", min: -1, max: 1, step: 0.02, value: stored.brightness, show: (value) => `${value > 0 ? "+" : ""}${Math.round(value * 100)}`,
        input: window(() => ({ brightness: part.brightness.value })),
      }),
      invert: check({ text: "Invert", value: stored.invert, change: window(() => ({ invert: part.invert.value })) }),
    };
    this.#built = part;
    viewer.setWindow({ low: stored.low, high: stored.high, brightness: stored.brightness, invert: stored.invert });
    const reset = h("button", { class: "button quiet", type: "button", onclick: () => this.reset() }, "Reset");
    this.element = h("div", { class: "stack" }, part.kind.element, part.cutoff.element, part.low.element, part.high.element,
      part.brightness.element, h("div", { class: "row" }, part.invert.element, h("span", { class: "grow" }), reset));
    this.element.classList.add("body");
  }

  get #parts() {
    if (!this.#built) throw new Error("the panel is being made");
    return this.#built;
  }

  get view() {
    const kind = this.#parts.kind.value ?? "raw";
    if (kind !== "lowpass") return kind;
    return `lowpass-${this.#cutoff.toFixed(1)}px`;
  }

  /** Cut-offs in raw pixels are a geometric series. */
  get #cutoff() {
    return FINEST_PX * (COARSEST_PX / FINEST_PX) ** ((this.#built?.cutoff.value ?? 0) / STEPS);
  }

  get cutoffText() {
    const length = this.#cutoff * (this.#pixelSize ?? 1);
    return `${length < 10 ? length.toFixed(1) : Math.round(length)} ${this.#pixelSize ? "Å" : "px"}`;
  }

  /** @param {ImageInfo} info */
  use(info) {
    this.#pixelSize = info.pixel_size_A;
    this.#parts.cutoff.rewrite(); // in its unit
  }

  /** @param {"invert" | "lowpass" | "prepared"} what */
  toggle(what) {
    const part = this.#parts;
    if (what === "invert") {
      part.invert.value = !part.invert.value;
      this.#viewer.setWindow({ invert: part.invert.value });
      this.#keep();
    } else {
      part.kind.value = part.kind.value === what ? "raw" : what;
      this.#changed();
    }
  }

  /** @param {string} view */
  settle(view) {
    this.#parts.kind.value = view.split("-")[0];
    this.#keep();
  }

  reset() {
    const part = this.#parts;
    part.low.value = PLAIN.low;
    part.high.value = PLAIN.high;
    part.brightness.value = PLAIN.brightness;
    part.invert.value = PLAIN.invert;
    part.kind.value = "raw";
    this.#viewer.setWindow(PLAIN);
    this.#changed();
  }

  #changed() {
    this.#keep();
    this.#onView(this.view);
  }

  #keep() {
    const part = this.#parts;
    remember("display", Object.fromEntries(Object.entries(part).map(([name, { value }]) => [name, value])));
  }
}
