/** Keys of the page for labelling: bindKeys(page); MOUSE() is what the mouse does, for the list of keys. */

import { h } from "./ui.js";

const PAN = 80; // css px
/** @type {Record<string, [number, number]>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export function MOUSE() {
  const rows = [["click", "adds a particle, or removes the one under the cursor; accepts a proposal"], ["drag", "moves a particle; beside particles, moves the micrograph"],
    ["wheel", "zooms at the cursor"], ["Space, right or middle button + drag", "moves the micrograph, whatever is under the cursor"]];
  return h("section", {}, h("h3", {}, "Mouse"), h("dl", {}, rows.map(([what, does]) => h("div", {}, h("dt", {}, what), h("dd", {}, does)))));
}

/** @param {import("./label.js").Page} page */
export function bindKeys(page) {
  const { keys, editor, viewer, cursor } = page;
  /** @type {(run: () => unknown) => () => unknown} */
  const when = (run) => () => (editor.ready ? run() : false);
  /** @type {(group: string, names: string, text: string, run: (() => unknown) | null) => void} */
  const on = (group, names, text, run) => keys.on(names, text, run, { group });

  on("Micrographs", "N PageDown ArrowRight", "next micrograph", () => page.step(1));
  on("Micrographs", "P PageUp ArrowLeft", "previous micrograph", () => page.step(-1));
  on("Micrographs", "U", "next unlabelled micrograph", () => page.step(1, true));
  on("Micrographs", "B", "mark as bad, or not bad", () => page.labelPanel.bad());

  for (const tool of page.tools) on("Tools", tool.key, tool.title.toLowerCase(), () => page.use(tool.name));
  on("Tools", "[ ]", "smaller, larger brush or diameter", null);
  keys.on("[", null, when(() => editor.tool?.step?.(-1)));
  keys.on("]", null, when(() => editor.tool?.step?.(1)));
  on("Tools", "Escape", "add tool; clear the selection", () => {
    if (cursor.active) cursor.toggle();
    editor.selection.clear();
    editor.proposals?.chosen.clear();
    page.use("add");
    editor.changed();
  });

  on("Labels", "Ctrl+Z", "undo", () => editor.undo());
  on("Labels", "Ctrl+Shift+Z Ctrl+Y", "redo", () => editor.redo());
  on("Labels", "Delete Backspace", "remove the selection", when(() => editor.removeSelected()));
  on("Labels", "Ctrl+A", "select all", when(() => editor.selectAll()));
  on("Labels", "1", "completely labelled", when(() => page.labelPanel.cover("complete")));
  on("Labels", "2", "partially labelled", when(() => page.labelPanel.cover("partial")));
  on("Labels", "3", "labelled inside regions", when(() => page.labelPanel.cover("regions")));
  on("Labels", "Shift+R", "make the visible area a region", when(() => editor.regionOfView()));

  on("Proposals", "G", "switch between none, automatic, model", () => page.propose(page.proposalPanel.following));
  on("Proposals", "Enter", "accept all above the threshold, or the selection", when(() => (cursor.active ? cursor.click() : page.enter())));
  on("Proposals", "X", "reject the one under the cursor, or the selection", when(() => editor.rejectHere(editor.cursor ?? page.pointer)));
  on("Proposals", ", .", "fewer, more", null);
  keys.on(",", null, () => page.proposalPanel.shift(-1));
  keys.on(".", null, () => page.proposalPanel.shift(1));

  on("Display", "L", "low-pass", () => page.display.toggle("lowpass"));
  on("Display", "M", "the model's view", () => page.display.toggle("prepared"));
  on("Display", "I", "invert", () => page.display.toggle("invert"));
  on("Display", "H", "hide or show labels and proposals", () => editor.hide());
  on("Display", "+ -", "zoom", null);
  for (const name of ["+", "="]) keys.on(name, null, () => viewer.zoomBy(1.25));
  keys.on("-", null, () => viewer.zoomBy(0.8));
  on("Display", "0 F", "fit the window", () => viewer.fit());
  on("Display", "Shift+ArrowLeft", "move the micrograph (all arrows)", null);

  on("Without a mouse", "C", "keyboard cursor on or off", when(() => cursor.toggle()));
  on("Without a mouse", "ArrowLeft ArrowRight ArrowUp ArrowDown", "move the cursor; with Shift, finely", null);
  on("Without a mouse", "Enter", "click at the cursor", null);
  on("Without a mouse", "Space", "grab or release a particle", null);
  keys.on("Space", null, () => (cursor.active ? cursor.hold() : false));
  for (const [name, [x, y]] of Object.entries(ARROWS)) {
    keys.on(name, null, () => {
      if (cursor.active && editor.ready) page.readout.hover(cursor.move(x, y, false));
      else if (x) page.step(x);
    });
    keys.on(`Shift+${name}`, null, () => (cursor.active && editor.ready ? page.readout.hover(cursor.move(x, y, true)) : viewer.panBy(-x * PAN, -y * PAN)));
  }
  on("Page", "?", "this list", () => page.help());
}
