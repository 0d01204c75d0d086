// Talking to the service: errors as it words them, its key if it wants one, and answers that come too late.

/** An error as the service tells it. `away` where nothing that speaks its language answered at all. */
export class Failed extends Error {
  constructor({ code, message, remedy = null, status = 0, away = false }) {
    super(message);
    Object.assign(this, { code, remedy, status, away });
  }
}

/** Where the service is shown: the root of its host, or the path below which a proxy has it. Without a slash at its end. */
export const BASE = new URL("..", import.meta.url).pathname.replace(/\/$/, "");

const STORE = "palate-key";
const listeners = { away: () => {}, locked: () => {} };

/** `away` hears that nobody answers, `locked` that the service wants a key (or another one). */
export function listen(given) {
  Object.assign(listeners, given);
}

// Some browsers refuse storage to private pages: the key is then asked for again after a reload.
let key = null;
try {
  key = sessionStorage.getItem(STORE);
} catch {
  // nothing kept
}

export function unlock(value) {
  key = value;
  try {
    sessionStorage.setItem(STORE, value);
  } catch {
    // nothing kept
  }
}

export const hasKey = () => key !== null;

const keyed = (headers) => (key === null ? headers : { ...headers, Authorization: `Bearer ${key}` });

/** The answer of the service as JSON; a body makes it a POST. */
export async function ask(path, body, signal) {
  const asked = body === undefined ? { headers: keyed({}) } : {
    method: "POST",
    headers: keyed({ "Content-Type": "application/json" }),
    body: JSON.stringify(body),
  };
  const used = key;
  let response;
  let answer = null;
  try {
    response = await fetch(BASE + path, { ...asked, signal });
    answer = await response.json().catch(() => null);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return nobody();
  }
  signal?.throwIfAborted();
  if (response.ok && answer !== null) return answer;
  const told = answer?.error;
  if (!told || typeof told.message !== "string") {
    // A proxy speaks in the service's place, or the connection broke in the middle of an answer.
    if (response.ok || [502, 503, 504].includes(response.status)) return nobody();
    throw new Failed({ code: "http", message: `The service answered ${response.status}.`, status: response.status });
  }
  // A question that was still under way with the key of before says nothing about the one given since.
  if (response.status === 401 && key === used) listeners.locked(told);
  throw new Failed({ ...told, status: response.status });
}

function nobody() {
  listeners.away();
  throw new Failed({ code: "away", message: "The service does not answer.", away: true });
}

/** A place for one answer: whoever asks anew is no longer interested in the one before. */
export class Slot {
  #abort = null;

  /** The answer, or null if it was asked anew, or cancelled, in the meantime. */
  async ask(path, body) {
    this.cancel();
    const abort = (this.#abort = new AbortController());
    try {
      const answer = await ask(path, body, abort.signal);
      return this.#abort === abort ? answer : null;
    } catch (error) {
      if (this.#abort !== abort) return null;
      throw error;
    } finally {
      if (this.#abort === abort) this.#abort = null;
    }
  }

  get busy() {
    return this.#abort !== null;
  }

  cancel() {
    this.#abort?.abort();
    this.#abort = null;
  }
}

/** A picture that only the key opens, as an address of this page; kept, since the same tiles come again and again. */
const pictures = new Map();
const MOST = 600;

export function lockedPicture(path) {
  if (!pictures.has(path)) {
    const made = fetch(BASE + path, { headers: keyed({}) }).then(async (response) => {
      if (!response.ok) throw new Error(`${response.status}`);
      return URL.createObjectURL(await response.blob());
    });
    made.catch(() => pictures.delete(path));
    pictures.set(path, made);
    if (pictures.size > MOST) {
      const [oldest, address] = pictures.entries().next().value;
      pictures.delete(oldest);
      address.then(URL.revokeObjectURL, () => {});
    }
  }
  return pictures.get(path);
}
