/** Keys of the page for inspecting: bindKeys(page). */

/** @param {import("./inspectpage.js").Page} page */
export function bindKeys(page) {
  const { keys, viewer } = page;
  /** @type {(run: () => unknown) => () => unknown} */
  const inMicrograph = (run) => () => (page.mode === "micrograph" ? run() : false);
  /** @param {string} name */
  const group = (name) => ({ group: name });
  keys.on("N J", "Next micrograph", inMicrograph(() => page.go(page.table.next(page.table.current, 1))), group("Micrographs"));
  keys.on("P K", "Previous micrograph", inMicrograph(() => page.go(page.table.next(page.table.current, -1))), group("Micrographs"));
  keys.on("G", "Gallery, and back", () => page.show(page.mode === "gallery" ? "micrograph" : "gallery"));
  keys.on("E", "Accept the threshold and export", () => page.exportPicks());
  keys.on("?", "This list", () => page.keys.help());
  keys.on("Ctrl+Z", "Undo a rejection", () => page.undo());
  keys.on("[ ArrowLeft", "Lower the threshold", () => page.plot.step(-1), group("Threshold"));
  keys.on("] ArrowRight", "Raise the threshold", () => page.plot.step(1), group("Threshold"));
  keys.on("{ Shift+ArrowLeft", "Lower it much", () => page.plot.step(-10), group("Threshold"));
  keys.on("} Shift+ArrowRight", "Raise it much", () => page.plot.step(10), group("Threshold"));
  keys.on("+ =", "Closer", inMicrograph(() => viewer.zoomBy(1.4)), group("Display"));
  keys.on("-", "Further away", inMicrograph(() => viewer.zoomBy(1 / 1.4)), group("Display"));
  keys.on("0", "Fit the window", inMicrograph(() => viewer.fit()), group("Display"));
  keys.on("I", "Invert", inMicrograph(() => page.display.toggle("invert")), group("Display"));
  keys.on("L", "Low-pass", inMicrograph(() => page.display.toggle("lowpass")), group("Display"));
  keys.on("M", "The model's view", inMicrograph(() => page.display.toggle("prepared")), group("Display"));
  keys.on("B", "Show picks below the threshold", inMicrograph(() => page.verdicts.toggle("under")), group("Display"));
  keys.on("X", "Reject the particle, or accept it again; with Shift, all from the last one", () => false, group("Gallery"));
  keys.on("O", "Open the particle's micrograph", () => false, group("Gallery"));
}
