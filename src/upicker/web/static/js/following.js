/** Waits until the server has read the picks, and asks now and then whether it has read others since. */

import { get } from "./api.js";

const POLL = 400; // ms between questions while picks are first read
const FOLLOW = 5000; // ms between questions whether there are other picks

/**
 * Returns the summary once all picks are read; `progress` is told the fraction until then.
 * @param {(fraction: number) => void} progress
 * @returns {Promise<PickSummary>}
 */
export async function whenRead(progress) {
  for (;;) {
    const found = await get("/api/picks/summary");
    if (found.loading === undefined) return found;
    progress(found.loading);
    await new Promise((resolve) => setTimeout(resolve, POLL));
  }
}

/**
 * Calls `renew` whenever the server has read other picks than those of number `shown()`.
 * @param {() => number | undefined} shown
 * @param {() => Promise<void>} renew
 */
export function follow(shown, renew) {
  const ask = async () => {
    try {
      if (!document.hidden && (await get("/api/picks/state")).number !== shown()) await renew();
    } catch {
      // The server may be away for a while; the next question may reach it.
    }
    setTimeout(ask, FOLLOW);
  };
  setTimeout(ask, FOLLOW);
}
