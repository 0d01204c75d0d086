// Talking to the service: errors as it words them, its key if it requires one, and answers that come too late.

/** An error as the service words it. `unreachable` where nothing that speaks its language answered at all. */
export class Failed extends Error {
  constructor({ code, message, remedy = null, status = 0, unreachable = false }) {
    super(message);
    Object.assign(this, { code, remedy, status, unreachable });
  }
}

/** Where the service is shown: the root of its host, or the path below which a proxy has it. Without a slash at its end. */
export const BASE = new URL("..", import.meta.url).pathname.replace(/\/$/, "");

const STORE = "palate-key";
const listeners = { unreachable: () => {}, locked: () => {} };

/** `unreachable` hears that nobody answers, `locked` that the service requires a key (or another one). */
export function listen(hooks) {
  Object.assign(listeners, hooks);
}

// Some browsers refuse storage to private pages: the key is then requested again after a reload.
let key = null;
try {
  key = sessionStorage.getItem(STORE);
} catch {
  // nothing stored
}

export function unlock(value) {
  key = value;
  try {
    sessionStorage.setItem(STORE, value);
  } catch {
    // nothing stored
  }
}

export const hasKey = () => key !== null;

const keyed = (headers) => (key === null ? headers : { ...headers, Authorization: `Bearer ${key}` });

/** The answer of the service as JSON; a body makes it a POST. */
export async function ask(path, body, signal) {
  const options = body === undefined ? { headers: keyed({}) } : {
    method: "POST",
    headers: keyed({ "Content-Type": "application/json" }),
    body: JSON.stringify(body),
  };
  const used = key;
  let response;
  let answer = null;
  try {
    response = await fetch(BASE + path, { ...options, signal });
    answer = await response.json().catch(() => null);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return unreachable();
  }
  signal?.throwIfAborted();
  if (response.ok && answer !== null) return answer;
  const failure = answer?.error;
  if (!failure || typeof failure.message !== "string") {
    // A proxy speaks in the service's place, or the connection broke in the middle of an answer.
    if (response.ok || [502, 503, 504].includes(response.status)) return unreachable();
    throw new Failed({ code: "http", message: `The service answered ${response.status}.`, status: response.status });
  }
  // A question that was still under way with the key of before says nothing about the one entered since.
  if (response.status === 401 && key === used) listeners.locked(failure);
  throw new Failed({ ...failure, status: response.status });
}

function unreachable() {
  listeners.unreachable();
  throw new Failed({ code: "unreachable", message: "The service does not answer.", unreachable: true });
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

/** A picture that only the key opens, as an address of this page; cached, since the same tiles come again and again. */
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
