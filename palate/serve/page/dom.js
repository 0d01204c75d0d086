// Elements. Whatever comes from the catalogue goes in as text, never as markup.

/** An element with attributes, `on…` listeners and children; null and undefined are left out, and so is false but for `aria-…`. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    // To assistive technology "false" says something else than nothing.
    if (name.startsWith("aria-")) element.setAttribute(name, value);
    else if (value === false) continue;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

export function button(text, onclick, attributes = {}) {
  return make("button", { type: "button", onclick, ...attributes }, text);
}

// Controls, and the marks that turn the direction of what follows: harmless in an element of their own, which
// isolates them, but not in a sentence of ours such as a label.
const CONTROLS = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** Somebody else's text inside a sentence of ours. */
export const quoted = (text) => text.replace(CONTROLS, " ").trim();

/** The title of an item in an element of its own, in whichever direction it reads. */
export function titled(item, tag = "span", attributes = {}) {
  return make(tag, { dir: "auto", title: quoted(item.title), ...attributes }, item.title);
}

const decimals = (from, to = from) => new Intl.NumberFormat("en", { minimumFractionDigits: from, maximumFractionDigits: to });
const [WHOLE, TENTHS, HUNDREDTHS] = [decimals(0), decimals(1), decimals(2)];
const SMALL = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });

/** A number with as many digits as people can compare at a glance. */
export function figure(value) {
  const size = Math.abs(value);
  if (Number.isInteger(value) || size >= 1000) return minus(WHOLE.format(value));
  if (size >= 100) return minus(TENTHS.format(value));
  return minus((size < 0.1 ? SMALL : HUNDREDTHS).format(value));
}

export const signed = (value) => (value > 0 ? "+" : "") + figure(value);

const minus = (text) => text.replace("-", "−");

export const count = (number, one, many = `${one}s`) => `${WHOLE.format(number)} ${number === 1 ? one : many}`;

/** Calls `act` once there was no call for `wait` milliseconds; `.stop()` drops the pending one. */
export function after(wait, act) {
  let timer = 0;
  const later = (...values) => {
    clearTimeout(timer);
    timer = setTimeout(act, wait, ...values);
  };
  later.stop = () => clearTimeout(timer);
  return later;
}

/** Tells people who listen to the page rather than look at it. */
export function announce(text) {
  byId("announcer").textContent = text;
}
