/**
 * The dialog that accepts the threshold and writes the picks.
 *
 *   await openExport({lowest, threshold, kept, rejected, micrographs})   lowest: the threshold in words
 */

import { explain, failure, get, send } from "./api.js";
import { dialog, h, many, remember, toast } from "./ui.js";

/** @param {{lowest: string, threshold: number, kept: number, rejected: number, micrographs: number}} chosen */
export async function openExport({ lowest, threshold, kept, rejected, micrographs }) {
  /** @type {{formats: {name: string, use: string, files: string}[], folder: string}} */
  let known;
  try {
    known = await get("/api/export");
  } catch (error) {
    toast(explain(error), { kind: "error" });
    return;
  }
  const chosen = known.formats.some(({ name }) => name === remember("export format")) ? remember("export format") : known.formats[0].name;
  const radios = known.formats.map(({ name }) => h("input", { type: "radio", name: "format", value: name, checked: name === chosen, "aria-label": name }));
  const folder = h("input", { class: "input", id: "export-folder", value: known.folder, spellcheck: "false", autocomplete: "off" });
  const replace = h("input", { type: "checkbox", id: "export-replace" });
  const replacing = h("label", { class: "check", hidden: true }, replace, h("span", {}, "Overwrite existing files"));
  const message = h("p", { class: "warn", role: "alert", hidden: true });
  const write = h("button", { class: "button primary", type: "submit", id: "export-write", disabled: kept === 0 }, `Export ${many(kept, "particle")}`);
  const form = h("form", { class: "export" },
    h("p", {}, `${many(kept, "pick")} in ${many(micrographs, "micrograph")} with at least ${lowest}`,
      rejected ? `, without those rejected by hand (${rejected.toLocaleString("en")}).` : "."),
    h("div", { class: "formats", role: "radiogroup", "aria-label": "Format" }, known.formats.map(({ name, use, files }, index) =>
      h("label", { class: "format" }, radios[index], h("b", {}, name), h("span", {}, `for ${use}`, h("span", { class: "files" }, files))))),
    h("label", { class: "field" }, h("span", {}, "Folder"), folder), replacing, message,
    h("div", { class: "row" }, h("span", { class: "grow" }), write));
  const element = dialog("Export picks", form);
  folder.addEventListener("input", () => {
    replacing.hidden = message.hidden = true;
    replace.checked = false;
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const format = radios.find((radio) => radio.checked)?.value ?? chosen;
    remember("export format", format);
    write.disabled = true;
    write.replaceChildren(h("span", { class: "spinner" }), "Writing…");
    message.hidden = true;
    try {
      const done = await send("POST", "/api/export", { format, threshold, folder: folder.value, overwrite: replace.checked });
      element.close();
      toast(`${many(done.written, "particle")} of ${many(done.micrographs, "micrograph")}, written to ${done.folder}.`, { seconds: 20 });
    } catch (error) {
      message.textContent = explain(error);
      message.hidden = false;
      replacing.hidden = failure(error).status !== 409;
      write.disabled = false;
      write.replaceChildren(`Export ${many(kept, "particle")}`);
    }
  });
  write.focus();
}
