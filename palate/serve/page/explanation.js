// Why an item is recommended: what each item of the history does to its score, what its parts do, what is like it.

import { ask, Slot } from "./api.js";
import { button, count, figure, make, quoted, signed, titled } from "./dom.js";
import { itemOf, itemPath, remember } from "./items.js";
import { picture } from "./thumbnails.js";

const FIRST = 6; // effects shown before the rest is requested
const ALIKE = 8;
const SOURCES = { "co-occurrence": "often taken together", lexical: "alike in words", text: "alike in text", image: "alike in picture" };
const LAGS = ["last", "second to last", "third to last", "fourth to last", "fifth to last"];
let panels = 0;

export class Explanation {
  #explained = new Slot();
  #alike = new Slot();
  #history = null;

  constructor(item, facts, app, close) {
    Object.assign(this, { item, facts, app });
    this.place = make("p", { class: "quiet" }, "Asking …");
    this.effects = make("div");
    this.similar = make("div");
    this.fields = make("div");
    const name = `Why ${quoted(item.title)}, by ${facts.name}`;
    this.element = make(
      "div",
      { class: "explanation", id: `explanation-${++panels}`, role: "region", "aria-label": name },
      make("div", { class: "explanation-head" }, make("h4", {}, "Why is this here?"), button("Close", close, { class: "plain" })),
      this.place,
      this.effects,
      this.similar,
      this.fields,
    );
    this.element.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      close();
    });
  }

  ask() {
    this.#explain();
    this.#likeness(["model", ...this.facts.features][0]);
    this.#showFields();
  }

  /** The list was requested anew: so is the explanation, if the history is another. */
  follow(rows) {
    if (rows.has(this.item.id) && JSON.stringify(this.app.history()) !== this.#history) this.#explain();
  }

  close() {
    this.#explained.cancel();
    this.#alike.cancel();
    this.element.remove();
  }

  async #explain() {
    const history = this.app.history();
    this.#history = JSON.stringify(history);
    if (!this.facts.explains) {
      this.place.replaceChildren("This model does not announce what moved a score.");
      return;
    }
    try {
      const answer = await this.#explained.ask("/v1/explain", { model: this.facts.name, history, item: this.item.id });
      if (answer === null) return;
      remember([...answer.history, ...(answer.neighbours ?? [])]);
      const rank = answer.rank === null ? null : `rank ${figure(answer.rank)} among all items outside your history`;
      const above = answer.above_mean ?? null;
      const mean = above === null ? "" : `, ${figure(Math.abs(above))} ${above < 0 ? "below" : "above"} the mean of all items`;
      const sentence = [rank, `score ${figure(answer.score)}${mean}`].filter(Boolean).join("; ");
      this.place.replaceChildren(`${sentence[0].toUpperCase()}${sentence.slice(1)}.`);
      this.effects.replaceChildren(
        ...moved(answer.history, answer.rank),
        ...near(answer.neighbours),
        ...parts(answer.modalities),
        ...notes(answer.notes),
      );
    } catch (error) {
      this.place.replaceChildren(...failure(error));
    }
  }

  async #likeness(by) {
    const choices = ["model", ...this.facts.features];
    const names = { model: "to the model", text: "in text", image: "in picture", lexical: "in words", "co-occurrence": "taken together" };
    const pick = make("span", { class: "segments", role: "group", "aria-label": "Alike by" });
    for (const one of choices) {
      pick.append(button(names[one] ?? one, () => this.#likeness(one), { "aria-pressed": one === by }));
    }
    const head = make("div", { class: "explanation-head" }, make("h5", {}, "Alike"), choices.length > 1 ? pick : "");
    const again = this.similar.contains(document.activeElement);
    const body = this.similar.lastElementChild ?? make("div");
    this.similar.replaceChildren(head, body);
    if (again) pick.querySelector('[aria-pressed="true"]').focus();
    try {
      const answer = await this.#alike.ask("/v1/similar", { model: this.facts.name, item: this.item.id, k: ALIKE, by });
      if (answer === null) return;
      remember(answer.items);
      const tiles = answer.items.map((item) => this.#tile(item));
      const none = make("p", { class: "quiet" }, "Nothing is known to be like it.");
      body.replaceChildren(tiles.length ? make("ol", { class: "strip small" }, ...tiles) : none);
    } catch (error) {
      body.replaceChildren(make("p", { class: "quiet" }, ...failure(error)));
    }
  }

  #tile(item) {
    const label = `Add ${quoted(item.title)} to your history, likeness ${figure(item.score)}`;
    return make(
      "li",
      { class: "tile" },
      make(
        "button",
        { type: "button", class: "pick", "aria-label": label, onclick: () => this.app.add(item) },
        picture(item, 256, false),
        titled(item, "span", { class: "caption" }),
        make("span", { class: "quiet number" }, figure(item.score)),
      ),
    );
  }

  async #showFields() {
    let { fields } = itemOf(this.item.id);
    try {
      if (!fields) [{ fields }] = remember([await ask(itemPath(this.item.id))]);
    } catch {
      return; // it is an extra
    }
    const rows = Object.entries(fields ?? {}).filter(([, value]) => value !== null && value !== "");
    if (rows.length === 0) return;
    const words = (value) => (Array.isArray(value) ? value.join(", ") : String(value));
    this.fields.replaceChildren(
      make("h5", {}, "In the catalogue"),
      make("dl", { class: "facts" }, ...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", { dir: "auto" }, words(value))])),
    );
  }
}

/** Bars to both sides of zero, the strongest first. */
function moved(history, rank) {
  if (history.length === 0) return [make("p", { class: "quiet" }, "There is no history yet: this is what a newcomer gets.")];
  const sorted = history.slice().sort((a, b) => Math.abs(b.effect) - Math.abs(a.effect));
  const most = Math.abs(sorted[0].effect) || 1;
  const rows = sorted.map((item) => effect(picture(item, 128, false), caption(item, rank), item.effect, most));
  const list = make("ul", { class: "effects" }, ...rows.slice(0, FIRST));
  const more = rows.length - FIRST;
  const all = button(`${count(more, "more item")}`, () => {
    list.append(...rows.slice(FIRST));
    all.remove();
    rows[FIRST].tabIndex = -1;
    rows[FIRST].focus();
  }, { class: "plain" });
  return [
    make("h5", {}, "Your history ", make("small", {}, "what each item adds to the score")),
    list,
    ...(more > 0 ? [all] : []),
  ];
}

function caption(item, rank) {
  const other = item.rank_without ?? null;
  const without = other === null || other === rank ? null : make("small", {}, `without it: rank ${figure(other)}`);
  return make("span", { class: "named" }, titled(item, "span", { class: "caption" }), without);
}

/** What is added because the item is like one that was taken of late: how, and what the two share. */
function near(neighbours) {
  if (!neighbours || neighbours.length === 0) return [];
  const rows = neighbours.map((item) => {
    const how = item.sources.map((one) => SOURCES[one.source] ?? `alike in ${quoted(one.source)}`).join(", ");
    const when = `taken ${LAGS[item.lag - 1] ?? `${item.lag} items ago`}`;
    const name = make(
      "span",
      { class: "named" },
      titled(item, "span", { class: "caption" }),
      make("small", {}, `${when}; ${how}`),
      item.shared.length ? make("small", {}, ...item.shared.flatMap(same)) : null,
    );
    return effect(picture(item, 128, false), name, item.effect, neighbours[0].effect);
  });
  return [
    make("h5", {}, "Like what you took ", make("small", {}, "a part of the score")),
    make("ul", { class: "effects near" }, ...rows),
  ];
}

/** "same brand (Nivea)"; the words of the catalogue in elements of their own. */
const same = ({ field, values }, place) => [
  `${place ? ", " : ""}same `,
  make("bdi", {}, quoted(field).replaceAll("_", " ").replace(/ name$/, "")),
  " (",
  make("bdi", {}, quoted(values.join(", "))),
  ")",
];

function parts(modalities) {
  if (!modalities || modalities.length === 0) return [];
  const most = Math.max(...modalities.map((part) => Math.abs(part.effect))) || 1;
  const rows = modalities.map((part) => {
    const name = make("span", { class: "caption" }, part.modality, part.present ? "" : make("small", {}, " it has none"));
    return effect(null, name, part.effect, most);
  });
  return [
    make("h5", {}, "Its parts ", make("small", {}, "the score, less the score if it did not have this")),
    make("ul", { class: "effects plain" }, ...rows),
  ];
}

function effect(thumb, name, value, most) {
  const fill = make("span", { class: value < 0 ? "fill minus" : "fill plus" });
  fill.style.width = `${(50 * Math.abs(value)) / most}%`;
  return make(
    "li",
    {},
    thumb,
    name,
    make("span", { class: "diverging", "aria-hidden": "true" }, fill),
    make("span", { class: "number" }, signed(value)),
  );
}

const notes = (sentences) => sentences.map((note) => make("p", { class: "quiet note" }, note));

const failure = (error) => [error.message, error.remedy ? ` ${error.remedy}` : ""];
