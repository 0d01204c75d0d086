// The items that answers have brought so far, and requests for those that none has.

import { ask } from "./api.js";

const known = new Map();
const notFound = new Set();
const AT_ONCE = 6;

/** Remembers items of an answer; gives them back. */
export function remember(items) {
  for (const item of items) known.set(item.id, { ...known.get(item.id), ...withoutNulls(item) });
  return items;
}

// Most answers leave out the fields, and must not make those forgotten that another brought.
const withoutNulls = (item) => (item.fields ? item : { id: item.id, title: item.title, image: item.image });

/** The item, or one that is only its id. */
export const itemOf = (id) => known.get(id) ?? { id, title: id, image: null, unknown: notFound.has(id) };

/** Asks for those items that no answer has brought yet. Those the catalogue does not have are remembered as such. */
export async function fetchUnknown(ids) {
  const waiting = [...new Set(ids)].filter((id) => !known.has(id) && !notFound.has(id));
  const work = async () => {
    for (let id = waiting.shift(); id !== undefined; id = waiting.shift()) {
      try {
        remember([await ask(itemPath(id))]);
      } catch (error) {
        if (error.status === 404) notFound.add(id);
        else return; // the next answer may bring it
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}

export const itemPath = (id) => `/v1/items/${encodeURIComponent(id)}`;
