/**
 * Talks to the server: JSON in, JSON out. The cookie goes along by itself.
 *
 *   await get("/api/session")                        -> the server's response
 *   await send("POST", "/api/...", {…}, {signal})     -> likewise
 *   picture(id, view)                                -> response of /picture, with the micrograph's `id`
 *   tileAddress(info, level, column, row)            -> address of one tile
 *   problemText(problem)                             -> the same of {where, found, remedy}, without the place
 *   explain(error)                                   -> one sentence or two for people
 *
 * Failures are `ServerError`: `status` is HTTP's, or 0 where there was no response (server away, `away` is true);
 * `body` is the JSON of the response, whose `error` is {where, found, remedy}.
 */

export class ServerError extends Error {
  /**
   * @param {number} status
   * @param {{error?: Problem, state?: any} | null} body
   */
  constructor(status, body) {
    const error = body?.error;
    super(error ? `${error.where}: ${error.found}. ${error.remedy}.` : status ? `The server responded with status ${status}.` : "The server is not reachable.");
    this.status = status;
    this.body = body;
    this.away = status === 0 || status === 502 || status === 503 || status === 504;
  }
}

/**
 * What went wrong, as far as the page asks for it.
 * @typedef {Error & {status?: number, away?: boolean}} Failure
 *
 * @param {unknown} error
 * @returns {Failure}
 */
export function failure(error) {
  return error instanceof Error ? error : new Error(String(error));
}

/**
 * @param {string} address
 * @param {RequestInit} options
 * @returns {Promise<any>}
 */
async function respond(address, options) {
  let response;
  try {
    response = await fetch(address, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    if (failure(error).name === "AbortError") throw error;
    throw new ServerError(0, null);
  }
  const isJson = (response.headers.get("content-type") ?? "").includes("json");
  let body;
  try {
    body = isJson ? await response.json() : null;
  } catch (error) {
    if (failure(error).name === "AbortError") throw error;
    throw new ServerError(0, null); // cut off in the middle of the response
  }
  if (!response.ok) throw new ServerError(response.status, body);
  return body;
}

/**
 * @param {string} address
 * @param {{signal?: AbortSignal}} [options]
 */
export function get(address, { signal } = {}) {
  return respond(address, { signal });
}

/**
 * @param {string} method
 * @param {string} address
 * @param {unknown} body
 * @param {{signal?: AbortSignal, keepalive?: boolean}} [options]
 */
export function send(method, address, body, { signal, keepalive = false } = {}) {
  return respond(address, { method, signal, keepalive, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

/**
 * @param {number} id
 * @param {string} view
 * @param {{signal?: AbortSignal}} [options]
 * @returns {Promise<ImageInfo>}
 */
export async function picture(id, view, { signal } = {}) {
  const info = await get(`/api/micrographs/${id}/picture?view=${encodeURIComponent(view)}`, { signal });
  return { ...info, id, view };
}

/**
 * @param {ImageInfo} info
 * @param {number} level
 * @param {number} column
 * @param {number} row
 */
export function tileAddress(info, level, column, row) {
  return `/api/micrographs/${info.id}/tiles/${encodeURIComponent(info.view)}/${level}/${column}/${row}?${info.version}`; // the server needs no version: it tells tiles apart that the browser keeps
}

/** @param {unknown} error */
export function explain(error) {
  if (error instanceof ServerError && error.status === 401) return "The server was restarted. Open the address that it printed; this page then continues by itself.";
  return failure(error).message || String(error);
}

/**
 * What is wrong with a micrograph whose name is on the screen already.
 * @param {Problem} problem
 */
export function problemText({ found, remedy }) {
  const text = `${found}. ${remedy}.`;
  return text[0].toUpperCase() + text.slice(1);
}
