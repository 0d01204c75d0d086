// Pictures of items, and what stands in their place where there is none.

import { BASE, hasKey, lockedPicture } from "./api.js";
import { make, quoted } from "./dom.js";

/** The picture of an item, or its title on a colour of its own. */
export function picture(item, size = 256, described = true) {
  const frame = make("div", { class: "pic" });
  if (item.image === null) frame.append(blank(item));
  else frame.append(image(item, size, described));
  return frame;
}

function image(item, size, described) {
  const path = `/v1/images/${encodeURIComponent(item.id)}?size=${size}`;
  const element = make("img", {
    alt: described ? `Picture of ${quoted(item.title)}` : "",
    loading: "lazy",
    decoding: "async",
    draggable: "false",
  });
  element.addEventListener("load", () => fit(element));
  element.addEventListener("error", () => missing(element, item, path));
  if (hasKey()) whenSeen(element, () => lockedPicture(path).then((url) => (element.src = url), () => missing(element, item, path)));
  else element.src = BASE + path;
  return element;
}

// Colours come from the id, so that an item without a picture looks the same wherever it stands.
function blank(item) {
  let hue = 0;
  for (const letter of item.id) hue = (hue * 31 + letter.codePointAt(0)) % 360;
  const title = make("span", { dir: "auto" }, item.title);
  const element = make("div", { class: "blank", role: "img", "aria-label": `No picture: ${quoted(item.title)}` }, title);
  element.style.setProperty("--hue", hue);
  return element;
}

// Shops photograph square, films have posters: the first picture says which, and all tiles follow it.
const SHAPES = [2 / 3, 3 / 4, 1, 4 / 3];
let shaped = false;

function fit(element) {
  const ratio = element.naturalWidth / element.naturalHeight;
  if (!shaped) {
    shaped = true;
    const nearest = SHAPES.reduce((a, b) => (Math.abs(b - ratio) < Math.abs(a - ratio) ? b : a));
    document.documentElement.style.setProperty("--ratio", nearest);
  }
  const tile = Number(getComputedStyle(document.documentElement).getPropertyValue("--ratio"));
  // Nearly the same shape: a little is cut off rather than leaving a sliver of ground.
  element.classList.toggle("fills", Math.abs(ratio / tile - 1) < 0.14);
}

const missingPictures = new Map();

function missing(element, item, path) {
  const substitute = blank(item);
  element.replaceWith(substitute);
  missingPictures.set(substitute, { element, path });
}

/** Tries pictures again that did not come while the service did not answer. */
export function retryMissing() {
  for (const [substitute, { element, path }] of missingPictures) {
    if (!substitute.isConnected) continue;
    substitute.replaceWith(element);
    if (hasKey()) lockedPicture(path).then((url) => (element.src = url), () => {});
    else element.src = BASE + path;
  }
  missingPictures.clear();
}

// Browsers load lazily by themselves, but not what is fetched with a header.
const waiting = new WeakMap();
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    watcher.unobserve(target);
    waiting.get(target)();
  }
}, { rootMargin: "300px" });

function whenSeen(element, act) {
  waiting.set(element, act);
  watcher.observe(element);
}
