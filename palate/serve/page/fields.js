// What the fields of a model's catalogue hold: asked once for each version of a model, when it is first needed.

import { ask, Failed } from "./api.js";

const asked = new Map();

/** Summaries by name of the field; empty where the service does not answer, and then it is asked again. */
export function fieldsOf(facts) {
  const key = `${facts.name}\n${facts.version}`;
  if (!asked.has(key)) {
    const answer = ask(`/v1/fields?model=${encodeURIComponent(facts.name)}`);
    asked.set(key, answer.then(({ fields }) => new Map(fields.map((one) => [one.name, one])), (error) => {
      asked.delete(key);
      if (!(error instanceof Failed)) throw error;
      return new Map();
    }));
  }
  return asked.get(key);
}

/** A value as a condition needs it: one with a comma would be several. */
export const asValue = (text) => (/[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

/** A condition with room around its operator. */
export const spaced = (condition) => condition.replace(/(!=|<=|>=|=|<|>)/, " $1 ");

/** A field of an item for people to read; empty where nothing is known. */
export function fieldText(item, name) {
  const value = item.fields && Object.hasOwn(item.fields, name) ? item.fields[name] : null;
  if (value === null || value === undefined) return "";
  return Array.isArray(value) ? value.filter((one) => one !== null).join(", ") : String(value);
}
