// The history as a strip of tiles: a press removes one, resting on one shows the lists without it.

import { button, count, make, quoted, titled } from "./dom.js";
import { itemOf } from "./items.js";
import { picture } from "./thumbnails.js";

const FIRST = 40; // tiles before the older ones are requested
const REST = 300; // milliseconds on a tile before it counts as a question

export class HistoryStrip {
  #tiles = new Map();
  #all = false;
  #timer = 0;
  #over = null;
  #pointer = "";

  /** `hooks`: `remove(item)`, `preview(item, pinned)`, `endPreview()`. */
  constructor(list, hooks) {
    this.list = list;
    this.hooks = hooks;
    list.addEventListener("pointerleave", () => this.#leave());
    list.addEventListener("focusout", (event) => {
      if (!list.contains(event.relatedTarget)) this.#leave();
    });
  }

  /** Newest first; `without` is the item that a preview leaves out, or null. */
  draw(ids, without) {
    const order = ids.slice().reverse();
    const shown = this.#all ? order : order.slice(0, FIRST);
    const focused = this.list.contains(document.activeElement) ? document.activeElement : null;
    const place = focused ? [...this.list.children].indexOf(focused.closest("li")) : -1;
    const old = this.#tiles;
    this.#tiles = new Map();
    const times = new Map();
    for (const id of shown) {
      // An item can stand in a history more than once.
      const time = (times.get(id) ?? 0) + 1;
      times.set(id, time);
      const item = itemOf(id);
      const key = JSON.stringify([id, time, item.title, item.image, item.unknown ?? false]);
      this.#tiles.set(key, old.get(key) ?? this.#tile(item));
    }
    const rest = order.length - shown.length;
    const more = make("li", { class: "tile more" }, button(`${count(rest, "older item")}`, () => this.#showAll(ids)));
    const next = [...this.#tiles.values(), ...(rest > 0 ? [more] : [])];
    const same = next.length === this.list.children.length && next.every((one, at) => one === this.list.children[at]);
    if (!same) this.list.replaceChildren(...next);
    if (focused && !same) {
      if (focused.isConnected) focused.focus({ preventScroll: true });
      else this.list.children[Math.min(place, this.list.children.length - 1)]?.querySelector("button").focus();
    }
    for (const tile of this.#tiles.values()) {
      const left = without !== null && tile.dataset.id === without.id;
      tile.classList.toggle("without", left);
      tile.querySelector(".what-if-button").setAttribute("aria-pressed", left && without.pinned);
    }
  }

  #showAll(ids) {
    this.#all = true;
    this.draw(ids, null);
  }

  #tile(item) {
    const name = quoted(item.title);
    const remove = make(
      "button",
      { type: "button", class: "pick", "aria-label": `Remove ${name} from your history`, onclick: () => this.hooks.remove(item) },
      picture(item, 256, false),
      make("span", { class: "cross", "aria-hidden": "true" }, "×"),
      item.unknown ? make("span", { class: "caption quiet" }, "not in the catalogue") : titled(item, "span", { class: "caption" }),
    );
    const question = button("What if?", () => this.hooks.preview(item, true), {
      class: "what-if-button",
      "aria-label": `What if ${name} were not in your history?`,
      "aria-pressed": "false",
    });
    const tile = make("li", { class: "tile" }, remove, question);
    tile.dataset.id = item.id;
    tile.addEventListener("pointermove", (event) => {
      // A tile that slides under a resting pointer, because another was removed, asks nothing.
      const place = `${event.screenX} ${event.screenY}`;
      if (event.pointerType === "mouse" && place !== this.#pointer) this.#rest(tile, item);
      this.#pointer = place;
    });
    tile.addEventListener("focusin", (event) => {
      if (event.target.matches(":focus-visible")) this.#rest(tile, item);
    });
    return tile;
  }

  #rest(tile, item) {
    if (this.#over === tile) return;
    this.#over = tile;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => tile.isConnected && this.#over === tile && this.hooks.preview(item, false), REST);
  }

  #leave() {
    this.#over = null;
    clearTimeout(this.#timer);
    this.hooks.endPreview();
  }
}
