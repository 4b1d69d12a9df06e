/**
 * The panel about one micrograph's labels: how many, how large particles are, what the labels cover, whether it is bad.
 *
 *   const panel = new LabelPanel(editor, {onTool})      onTool(name): the user asked for a tool
 *   panel.element, panel.show()
 *   panel.cover("complete" | "partial" | "regions"), panel.bad()
 */

import { check, h, segmented, toast } from "./ui.js";

const COVERAGE = [["complete", "completely"], ["partial", "in part"], ["regions", "in regions"]];
/** @type {Record<Coverage, string>} */
const EXPLAINED = {
  unset: "Choose one before training: what is not labelled counts as background.",
  complete: "Every particle of this micrograph is labelled.",
  partial: "Some particles are unlabelled; unlabelled detections are down-weighted as background.",
  regions: "Every particle inside the regions is labelled.",
};

export class LabelPanel {
  #editor;
  #onTool;
  #parts;

  /**
   * @param {import("./editor.js").Editor} editor
   * @param {{onTool: (name: string) => void}} hooks
   */
  constructor(editor, { onTool }) {
    this.#editor = editor;
    this.#onTool = onTool;
    this.#parts = {
      count: h("span", { class: "figure", id: "count" }),
      noun: h("span", { class: "muted" }),
      size: h("input", { class: "input", inputmode: "decimal", id: "diameter", "aria-label": "Diameter", autocomplete: "off", onchange: () => this.#typed() }),
      unit: h("span", { class: "muted" }),
      coverage: segmented({ text: "Labelled", name: "coverage", options: COVERAGE, value: null, change: (value) => this.cover(/** @type {Coverage} */ (value)) }),
      explained: h("p", { class: "muted", id: "told" }),
      bad: check({ text: "Bad micrograph: not for training", change: () => this.bad() }),
      file: h("p", { class: "muted clip" }),
      draw: h("button", { class: "button", type: "button", hidden: true, onclick: () => onTool("region") }, "Draw regions"),
      usual: h("button", { class: "button", type: "button", hidden: true }),
    };
    const part = this.#parts;
    const measure = h("button", { class: "button", type: "button", onclick: () => onTool("diameter") }, "Measure");
    const adopt = () => {
      const px = this.#editor.sheet?.info?.diameter_px;
      if (px) this.#editor.commit([{ op: "diameter", px }]);
    };
    part.usual.addEventListener("click", adopt);
    this.element = h("div", { class: "stack" },
      h("div", { class: "row" }, part.count, part.noun),
      h("div", { class: "field" }, h("span", {}, "Particle diameter"), h("div", { class: "unit" }, part.size, part.unit, measure), part.usual),
      part.coverage.element, part.explained, part.draw, part.bad.element, part.file);
  }

  /** The file's diameter may be another than the one that was set last, on another micrograph. */
  #offer() {
    const { diameter, preview, sheet } = this.#editor;
    const usual = sheet?.info?.diameter_px ?? null;
    const other = usual !== null && diameter !== null && preview === null && Math.abs(diameter / usual - 1) > 0.005;
    this.#parts.usual.hidden = !other;
    if (other) this.#parts.usual.textContent = `Use ${this.#length(usual)}, as in other micrographs`;
  }

  show() {
    const { labels, diameter } = this.#editor;
    const part = this.#parts;
    this.element.inert = !this.#editor.labels?.loaded;
    if (!labels?.loaded) return;
    const { size } = labels.particles;
    const selected = this.#editor.selection.size;
    part.count.textContent = String(size);
    part.noun.textContent = `particle${size === 1 ? "" : "s"}${selected ? `, ${selected} selected` : ""}`;
    const pixel = this.#pixelSize;
    if (document.activeElement !== part.size) part.size.value = diameter ? String(Number((diameter * (pixel ?? 1)).toPrecision(4))) : "";
    this.#offer();
    part.size.removeAttribute("aria-invalid");
    part.unit.textContent = pixel ? "Å" : "px";
    part.coverage.value = labels.coverage;
    const none = labels.coverage === "regions" && labels.regions.length === 0;
    part.explained.textContent = none ? "No region is drawn yet." : EXPLAINED[labels.coverage];
    part.explained.classList.toggle("warn", none);
    part.draw.hidden = labels.coverage !== "regions";
    part.bad.value = labels.bad;
    part.file.textContent = labels.file ? `Saved in ${labels.file}` : "";
    part.file.title = labels.file ?? "";
  }

  /** @param {Coverage} value */
  cover(value) {
    const { labels } = this.#editor;
    if (!labels?.loaded || labels.coverage === value) return;
    this.#editor.commit([{ op: "coverage", value }]);
    if (value === "regions" && !labels.regions.length) this.#onTool("region");
  }

  bad() {
    const { labels } = this.#editor;
    if (!labels?.loaded) return;
    this.#editor.commit([{ op: "bad", value: !labels.bad }]);
    if (labels.bad) toast("Marked as bad.", { seconds: 3, action: { text: "Undo", run: () => this.#editor.undo() } });
  }

  get #pixelSize() {
    return this.#editor.sheet?.info?.pixel_size_A ?? null;
  }

  /** @param {number} px */
  #length(px) {
    const pixel = this.#pixelSize;
    return `${Number((px * (pixel ?? 1)).toPrecision(4))} ${pixel ? "Å" : "px"}`;
  }

  #typed() {
    const { size } = this.#parts;
    const value = Number(size.value.replace(",", ".").replace(/\s*(Å|A|px)$/i, ""));
    const px = value / (this.#pixelSize ?? 1);
    const fits = value > 0 && px < Math.max(...(this.#editor.sheet?.info?.shape ?? [Infinity]));
    size.setAttribute("aria-invalid", String(!fits));
    if (fits) this.#editor.commit([{ op: "diameter", px: Math.round(px * 100) / 100 }]);
  }
}
