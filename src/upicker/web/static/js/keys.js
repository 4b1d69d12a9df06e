/**
 * Keys of a page, and the list of them that "?" shows.
 *
 *   const keys = new Keys()
 *   keys.on("Ctrl+Z", "Undo", run, {group: "Labels"})     several: "N ArrowRight"; text null: not listed;
 *                                                        run null: only listed
 *   keys.help()                                           shows the list
 *
 * Keys are named by what they type, upper case; Shift is written where the character does not imply it ("Shift+R", "?").
 * On a Mac, Cmd counts as Ctrl. While one types into a field, keys are the field's; so are arrows on a slider.
 */

import { dialog, h } from "./ui.js";

/** @type {Record<string, RegExp>} */
const OWN = { range: /^(Arrow|Page|Home|End)/, button: /^(Enter|Space)/, radio: /^(Arrow|Space)/, checkbox: /^Space/, summary: /^(Enter|Space)/, select: /^(?!Escape)/, text: /^(?!Escape|Ctrl\+Z|Ctrl\+Shift\+Z)/ };
/** @type {Record<string, string>} */
const SHOWN = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Escape: "Esc" };

export class Keys {
  /** @type {Map<string, (event: KeyboardEvent) => unknown>} */
  #actions = new Map();
  /** @type {{names: string[], text: string, group: string}[]} */
  #rows = [];

  constructor() {
    window.addEventListener("keydown", (event) => this.#press(event));
  }

  /**
   * @param {string} names
   * @param {string | null} text
   * @param {((event: KeyboardEvent) => unknown) | null} run
   * @param {{group?: string}} [options]
   */
  on(names, text, run, { group = "General" } = {}) {
    if (run) for (const name of names.split(" ")) this.#actions.set(name, run);
    if (text) this.#rows.push({ names: names.split(" "), text, group });
  }

  /** @param {...Node} more */
  help(...more) {
    const groups = [...new Set(this.#rows.map((row) => row.group))];
    dialog("Keys and mouse", h("div", { class: "keylist" }, ...more, groups.map((group) => h("section", {}, h("h3", {}, group),
      h("dl", {}, this.#rows.filter((row) => row.group === group).map((row) => h("div", {},
        h("dt", {}, row.names.map((name) => h("span", { class: "key" }, printed(name)))), h("dd", {}, row.text))))))));
  }

  /** @param {KeyboardEvent} event */
  #press(event) {
    if (event.defaultPrevented || event.altKey || document.querySelector("dialog[open]")) return;
    const name = nameOf(event);
    const owner = kindOf(event.target);
    if (owner && OWN[owner].test(name)) return;
    const run = this.#actions.get(name);
    if (!run || run(event) === false) return;
    event.preventDefault();
  }
}

/** @param {KeyboardEvent} event */
function nameOf(event) {
  const key = event.key === " " ? "Space" : event.key.length === 1 ? event.key.toUpperCase() : event.key;
  const isLetter = key.length > 1 || /[A-Z]/.test(key);
  return (event.ctrlKey || event.metaKey ? "Ctrl+" : "") + (event.shiftKey && isLetter ? "Shift+" : "") + key;
}

/**
 * @param {EventTarget | null} target
 * @returns {string | null}
 */
function kindOf(target) {
  if (!(target instanceof Element)) return null;
  const tag = target.tagName.toLowerCase();
  if (target instanceof HTMLInputElement) return ["range", "radio", "checkbox"].includes(target.type) ? target.type : "text";
  if (tag === "a") return "button";
  return tag === "textarea" ? "text" : tag in OWN ? tag : null;
}

/** @param {string} name */
function printed(name) {
  return name === "+" ? name : name.split("+").map((part) => SHOWN[part] ?? part).join(" ");
}
