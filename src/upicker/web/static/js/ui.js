/**
 * Small parts of all pages. Texts become text nodes: file names and messages are never read as HTML.
 *
 *   h("button", {class: "button", onclick: run, "aria-label": "Undo"}, "text", node…)   -> element; null children are left out
 *   icon("undo")                                          -> svg, see ICONS
 *   slider({text, min, max, step, value, show, input, change})  -> {element, value (get/set), bounds(min, max), disabled, rewrite(): its text anew}
 *   segmented({text, name, options: [[value, text]…], value, change})   -> {element, value (get/set)}
 *   check({text, value, change})                          -> {element, value (get/set)}
 *   panel(title, {open, id}, …children)                   -> <details class="panel">; remembers whether it is open
 *   toast(text, {kind: "error", seconds, action: {text, run}})   -> function that removes it
 *   dialog(title, …children)                              -> <dialog>, shown; removed when it is closed
 *   folds()                                               -> wires the bar's buttons [data-fold="left|right"] of narrow windows
 *   byId(id, HTMLButtonElement), find(parent, selector, …)   -> element of that kind, which must be there
 *   context2d(canvas)                                     -> its context for drawing
 *   later(run, ms)                                        -> function that runs when it has not been called for so long
 *   remember(key), remember(key, value)                   -> a setting that this browser keeps
 *   many(count, noun)                                     -> "1 pick", "1,204 picks"
 */

/**
 * Attributes of an element, and listeners as "onclick"; null and false leave an attribute out, true is an empty one.
 * @typedef {Record<string, any>} Properties
 *
 * What an element holds: nodes, texts, numbers, lists of these; null, undefined and false are left out.
 * @typedef {Node | string | number | null | undefined | false} Child
 * @typedef {Child | Child[]} Children
 */

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Properties} [properties]
 * @param {...Children} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== false) element.append(typeof child === "number" ? String(child) : child);
  }
  return element;
}

/**
 * The element of the page with an id, which must be there and of that kind.
 * @template {HTMLElement} [E=HTMLElement]
 * @param {string} id
 * @param {new () => E} [kind]
 * @returns {E}
 */
export function byId(id, kind) {
  const element = document.getElementById(id);
  if (!(element instanceof (kind ?? HTMLElement))) throw new Error(`the page has no #${id} of the kind that is needed`);
  return /** @type {E} */ (element);
}

/**
 * The one element of a kind that a selector finds, which must be there.
 * @template {Element} [E=HTMLElement]
 * @param {ParentNode} parent
 * @param {string} selector
 * @param {new () => E} [kind]
 * @returns {E}
 */
export function find(parent, selector, kind) {
  const element = parent.querySelector(selector);
  if (!(element instanceof (kind ?? HTMLElement))) throw new Error(`there is no ${selector} of the kind that is needed`);
  return /** @type {E} */ (/** @type {unknown} */ (element));
}

/**
 * The canvas's context for drawing in two dimensions.
 * @param {HTMLCanvasElement} canvas
 * @param {CanvasRenderingContext2DSettings} [settings]
 */
export function context2d(canvas, settings) {
  const context = canvas.getContext("2d", settings);
  if (!context) throw new Error("the browser cannot draw");
  return context;
}

/** @type {Record<string, string>} */
const ICONS = {
  undo: "M4 8h8a4 4 0 0 1 0 8H8 M4 8l4-4 M4 8l4 4",
  redo: "M16 8H8a4 4 0 0 0 0 8h4 M16 8l-4-4 M16 8l-4 4",
  add: "M10 3.5a6.5 6.5 0 1 1 0 13a6.5 6.5 0 1 1 0-13 M10 7v6 M7 10h6",
  erase: "M8 16L3.5 11.5a1 1 0 0 1 0-1.5L10 3.5l6 6L9.5 16z M6.5 7l6 6 M8 16h9",
  select: "M3 3h3 M9 3h2 M14 3h3v3 M17 9v2 M17 14v3h-3 M11 17H9 M6 17H3v-3 M3 11V9 M3 6V3",
  region: "M3 5h14v10H3z M3 8.5l3.5-3.5 M3 13L11 5 M5.5 15L15.5 5 M10 15l7-7 M14.5 15l2.5-2.5",
  diameter: "M10 3.5a6.5 6.5 0 1 1 0 13a6.5 6.5 0 1 1 0-13 M3.5 10h13 M6 8l-2.5 2l2.5 2 M14 8l2.5 2l-2.5 2",
  fit: "M3 7V3h4 M13 3h4v4 M17 13v4h-4 M7 17H3v-4",
  help: "M7 7.5a3 3 0 1 1 4.5 2.600c-1 .6-1.5 1.100-1.5 2.400 M10 15.700v.1",
  list: "M4 5h12 M4 10h12 M4 15h12",
  panels: "M4 6h7 M15 6h1 M4 14h1 M9 14h7 M13 4v4 M7 12v4",
  next: "M8 4l6 6l-6 6",
  previous: "M12 4l-6 6l6 6",
  close: "M5 5l10 10 M15 5L5 15",
};

/** @param {string} name one of ICONS */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/**
 * @typedef {object} SliderOptions
 * @property {string} text
 * @property {number} [min]
 * @property {number} [max]
 * @property {number | "any"} [step]
 * @property {number} [value]
 * @property {(value: number) => string} [show] the value as a text
 * @property {((value: number) => void) | null} [input] called while it moves
 * @property {((value: number) => void) | null} [change] called when it is let go
 * @property {string} [kind] a class of its own
 *
 * @param {SliderOptions} options
 */
export function slider({ text, min = 0, max = 1, step = "any", value = 0, show = String, input = null, change = null, kind = "" }) {
  const output = h("output");
  const range = h("input", { type: "range", min, max, step, "aria-label": text });
  const element = h("label", { class: `slider ${kind}` }, h("span", {}, text), output, range);
  const write = () => {
    output.textContent = show(Number(range.value));
    range.setAttribute("aria-valuetext", output.textContent);
  };
  range.value = String(value);
  range.addEventListener("input", () => {
    write();
    input?.(Number(range.value));
  });
  range.addEventListener("change", () => change?.(Number(range.value)));
  write();
  return {
    element,
    get value() { return Number(range.value); },
    set value(next) { range.value = String(next); write(); },
    rewrite: write,
    /** @param {boolean} next */
    set disabled(next) { range.disabled = next; },
    /** @type {(least: number, most: number) => void} */
    bounds(least, most) { range.min = String(least); range.max = String(most); write(); },
  };
}

/**
 * @typedef {object} SegmentedOptions
 * @property {string} text
 * @property {string} name
 * @property {string[][]} options value and text of each
 * @property {string | null} value
 * @property {(value: string) => void} change
 *
 * @param {SegmentedOptions} options
 */
export function segmented({ text, name, options, value, change }) {
  const inputs = options.map(([each]) => h("input", { type: "radio", name, value: each, checked: each === value }));
  const element = h("fieldset", { class: "segmented" }, h("legend", {}, text),
    options.map(([, label], index) => h("label", {}, inputs[index], h("span", {}, label))));
  for (const input of inputs) input.addEventListener("change", () => change(input.value));
  return {
    element,
    /** @returns {string | null} */
    get value() { return inputs.find((input) => input.checked)?.value ?? null; },
    set value(next) { for (const input of inputs) input.checked = input.value === next; },
  };
}

/** @param {{text: string, value?: boolean, change: (value: boolean) => void}} options */
export function check({ text, value = false, change }) {
  const input = h("input", { type: "checkbox" });
  input.checked = value;
  input.addEventListener("change", () => change(input.checked));
  return {
    element: h("label", { class: "check" }, input, h("span", {}, text)),
    get value() { return input.checked; },
    set value(next) { input.checked = next; },
  };
}

/**
 * @param {string} title
 * @param {{open?: boolean, id?: string}} options
 * @param {...Children} children
 */
export function panel(title, { open = true, id = title } = {}, ...children) {
  const body = h("div", { class: "body" }, ...children);
  const element = h("details", { class: "panel" }, h("summary", {}, title), body);
  element.open = remember(`panel ${id}`) ?? open;
  element.addEventListener("toggle", () => remember(`panel ${id}`, element.open));
  return element;
}

/**
 * @param {string} text
 * @param {{kind?: string, seconds?: number, action?: {text: string, run: () => void} | null}} [options]
 */
export function toast(text, { kind = "", seconds = 8, action = null } = {}) {
  let box = document.querySelector(".toasts");
  if (!box) box = document.body.appendChild(h("div", { class: "toasts", role: "status", "aria-live": "polite" }));
  const remove = () => element.remove();
  const element = h("div", { class: `toast ${kind}` }, h("p", { class: "grow" }, text),
    action && h("button", { class: "button", type: "button", onclick: () => {
      remove();
      action.run();
    } }, action.text),
    h("button", { class: "button quiet icon", type: "button", "aria-label": "Close", onclick: remove }, icon("close")));
  box.append(element);
  while (box.children.length > 3) box.firstElementChild?.remove();
  if (seconds) setTimeout(remove, seconds * 1000);
  return remove;
}

/**
 * @param {string} title
 * @param {...Children} children
 */
export function dialog(title, ...children) {
  const close = h("button", { class: "button quiet icon", type: "button", "aria-label": "Close", onclick: () => element.close() }, icon("close"));
  const element = h("dialog", { class: "dialog", "aria-label": title },
    h("div", { class: "row" }, h("h2", { class: "grow" }, title), close), ...children);
  element.addEventListener("click", (event) => event.target === element && element.close());
  element.addEventListener("close", () => element.remove());
  document.body.append(element);
  element.showModal();
  return element;
}

export function folds() {
  const page = document.body;
  const buttons = [.../** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-fold]"))];
  /** @param {string | null | undefined} which */
  const set = (which) => {
    if (which) page.dataset.open = which;
    else delete page.dataset.open;
    for (const button of buttons) button.setAttribute("aria-expanded", String(button.dataset.fold === which));
  };
  for (const button of buttons) button.addEventListener("click", () => set(page.dataset.open === button.dataset.fold ? null : button.dataset.fold));
  document.querySelector(".stage")?.addEventListener("pointerdown", () => set(null));
  set(null);
}

/**
 * @template {unknown[]} Values
 * @param {(...values: Values) => unknown} run
 * @param {number} ms
 * @returns {(...values: Values) => void}
 */
export function later(run, ms) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...values), ms);
  };
}

/**
 * @param {string} key
 * @param {unknown} [value]
 * @returns {any} what was kept last; null: nothing
 */
export function remember(key, value) {
  const name = `upicker setting ${key}`;
  try {
    if (value !== undefined) localStorage.setItem(name, JSON.stringify(value));
    return JSON.parse(localStorage.getItem(name) ?? "null");
  } catch {
    return null; // a browser that keeps nothing
  }
}

/**
 * @param {number} count
 * @param {string} noun
 */
export function many(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}
