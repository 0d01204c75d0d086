// The catalogue as pictures to press: the most popular, or those whose title has the words looked for.

import { Slot } from "./api.js";
import { after, announce, button, byId, count, make, quoted, titled } from "./dom.js";
import { remember } from "./items.js";
import { picture } from "./thumbnails.js";

const PAGE = 24;
const TYPING = 160;

export class Catalogue {
  #slot = new Slot();
  #items = [];
  #total = 0;
  #words = null; // those of the items shown
  #query = "";
  #tiles = new Map();

  /** `hooks`: `toggle(item)`, `history()`, `closed()`. */
  constructor(element, input, hooks) {
    this.element = element;
    this.input = input;
    this.hooks = hooks;
    this.status = make("p", { class: "quiet" });
    this.grid = make("ul", { class: "grid" });
    this.more = button("More", () => this.#ask(this.#items.length), { class: "more-button" });
    element.append(
      make(
        "div",
        { class: "section-head" },
        make("h2", { id: "catalogue-title" }, "Catalogue"),
        this.status,
        make("div", { class: "actions" }, button("Close", () => this.close(true))),
      ),
      this.grid,
      this.more,
    );
    const typed = after(TYPING, () => this.search(input.value.trim()));
    input.addEventListener("input", typed);
    input.addEventListener("focus", () => this.open());
    input.form.addEventListener("submit", (event) => {
      event.preventDefault();
      typed.stop();
      this.search(input.value.trim());
    });
    for (const place of [element, input]) {
      place.addEventListener("keydown", (event) => {
        if (event.key === "Escape") this.close(true);
      });
    }
  }

  get opened() {
    return !this.element.hidden;
  }

  open() {
    if (this.opened) return;
    this.element.hidden = false;
    this.search(this.input.value.trim());
  }

  close(byHand = false) {
    if (!this.opened) return;
    const within = this.element.contains(document.activeElement);
    this.element.hidden = true;
    this.input.value = "";
    if (byHand) this.hooks.closed(within);
  }

  search(words) {
    this.element.hidden = false;
    this.#query = words;
    if (words !== this.#words) return this.#ask(0);
  }

  /** Asks again for what did not come. */
  recover() {
    if (this.opened && this.#query !== this.#words) return this.#ask(0);
  }

  async #ask(offset) {
    const words = this.#query;
    this.element.setAttribute("aria-busy", "true");
    try {
      const query = new URLSearchParams({ q: words, limit: PAGE, offset });
      const page = await this.#slot.ask(`/v1/items?${query}`);
      if (page === null) return;
      remember(page.items);
      const next = offset ? this.#items.length : null;
      this.#items = offset ? [...this.#items, ...page.items] : page.items;
      this.#total = page.total;
      this.#words = words;
      this.draw();
      if (next !== null) this.grid.children[next]?.querySelector("button").focus();
    } catch (error) {
      if (!error.unreachable) this.status.textContent = error.message;
    } finally {
      if (!this.#slot.busy) this.element.setAttribute("aria-busy", "false");
    }
  }

  draw() {
    const had = new Set(this.hooks.history());
    const old = this.#tiles;
    this.#tiles = new Map(this.#items.map((item) => [item.id, old.get(item.id) ?? this.#tile(item)]));
    const tiles = [...this.#tiles.values()];
    if (tiles.some((tile, at) => tile !== this.grid.children[at]) || tiles.length !== this.grid.children.length) {
      this.grid.replaceChildren(...tiles);
    }
    for (const [id, tile] of this.#tiles) tile.querySelector("button").setAttribute("aria-pressed", had.has(id));
    const words = this.#words;
    const found = words ? `${count(this.#total, "title")} with “${quoted(words)}”` : `${count(this.#total, "item")}, most popular first`;
    const text = this.#total ? `${found}. Press a picture to put it in your history.` : `Nothing with “${quoted(words ?? "")}”.`;
    if (this.status.textContent !== text) {
      this.status.textContent = text;
      if (this.input === document.activeElement) announce(text);
    }
    this.more.hidden = this.#items.length >= this.#total;
  }

  #tile(item) {
    return make(
      "li",
      { class: "tile" },
      make(
        "button",
        { type: "button", class: "pick", "aria-pressed": "false", "aria-label": quoted(item.title), onclick: () => this.hooks.toggle(item) },
        picture(item, 256, false),
        make("span", { class: "tick", "aria-hidden": "true" }, "✓"),
        titled(item, "span", { class: "caption" }),
      ),
    );
  }
}

/** `/` leads to the search from wherever no text is being written. */
export function slashSearches(input) {
  document.addEventListener("keydown", (event) => {
    const writing = event.target.closest?.("input, textarea, select, [contenteditable]");
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || writing || byId("api-key")) return;
    event.preventDefault();
    input.focus();
    input.select();
  });
}
