/**
 * Talks to the server: JSON in, JSON out. The cookie goes along by itself.
 *
 *   await get("/api/session")                        -> what the server answers
 *   await send("POST", "/api/...", {…}, {signal})     -> likewise
 *   picture(id, view)                                -> answer of /picture, with the micrograph's `id`
 *   tileAddress(info, level, column, row)            -> address of one tile
 *   explain(error)                                   -> one sentence or two for people
 *
 * Failures are `ServerError`: `status` is HTTP's, or 0 where there was no answer (server away, `away` is true);
 * `body` is the JSON answered, whose `error` is {where, found, remedy}.
 */

export class ServerError extends Error {
  constructor(status, body) {
    const error = body?.error;
    super(error ? `${error.where}: ${error.found}. ${error.remedy}.` : status ? `The server answered ${status}.` : "The server is away.");
    this.status = status;
    this.body = body;
    this.away = status === 0 || status === 502 || status === 503 || status === 504;
  }
}

async function answer(address, options) {
  let response;
  try {
    response = await fetch(address, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(0, null);
  }
  const isJson = (response.headers.get("content-type") ?? "").includes("json");
  let body = null;
  try {
    body = isJson ? await response.json() : null;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(0, null); // cut off in the middle of the answer
  }
  if (!response.ok) throw new ServerError(response.status, body);
  return body;
}

export function get(address, { signal } = {}) {
  return answer(address, { signal });
}

export function send(method, address, body, { signal, keepalive = false } = {}) {
  return answer(address, { method, signal, keepalive, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

export async function picture(id, view, { signal } = {}) {
  const info = await get(`/api/micrographs/${id}/picture?view=${encodeURIComponent(view)}`, { signal });
  return { ...info, id, view };
}

export function tileAddress(info, level, column, row) {
  return `/api/micrographs/${info.id}/tiles/${encodeURIComponent(info.view)}/${level}/${column}/${row}?${info.version}`; // the server needs no version: it tells pictures kept here apart
}

export function explain(error) {
  if (error instanceof ServerError && error.status === 401) return "The server was started anew. Open the address that it printed; this page then goes on by itself.";
  return error?.message || String(error);
}
