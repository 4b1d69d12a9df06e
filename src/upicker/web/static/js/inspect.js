/** Starts the page for inspecting. */

import { explain, failure, get } from "./api.js";
import { Page } from "./inspectpage.js";
import { byId, h } from "./ui.js";

async function main() {
  /** @type {Page | null} */
  let page = null;
  try {
    const [session, micrographs] = await Promise.all([get("/api/session"), get("/api/micrographs")]);
    page = new Page(session, micrographs);
    await page.start();
  } catch (error) {
    if (page) page.failed(error);
    else byId("over").append(h("div", { class: "card", role: "alert" }, h("h2", {}, "The page cannot start"), h("p", {}, explain(error))));
    const { status, away } = failure(error);
    if (!status && !away) throw error;
  }
  document.body.dataset.ready = "true";
}

main();
