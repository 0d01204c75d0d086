// Demo users: choosing one, what they took next, and the preference that was written of them.

import { byId, count, make, quoted, titled } from "./dom.js";
import { picture } from "./thumbnails.js";
import { newWords } from "./wordDiff.js";

const CARDS = 8;

/** The choice of a demo user; hidden where there is none. */
export function fillPicker(people, choose) {
  const select = byId("person");
  byId("person-picker").hidden = people.length === 0;
  select.replaceChildren(
    make("option", { value: "" }, "nobody: my own"),
    ...people.map((person) => make("option", { value: person.id }, `${quoted(person.id)} (${count(person.history.length, "item")})`)),
  );
  select.onchange = () => choose(select.value || null);
}

/** For whoever has no history yet: some users with their newest pictures. */
export function cards(people, choose) {
  if (people.length === 0) return [];
  const some = people.slice(0, CARDS).map((person) => {
    const newest = person.history.slice(-4).reverse();
    const facts = [count(person.history.length, "item"), person.preference.length ? "written preference" : null];
    return make(
      "li",
      {},
      make(
        "button",
        { type: "button", class: "person", onclick: () => choose(person.id) },
        make("span", { class: "fan", "aria-hidden": "true" }, ...newest.map((item) => picture(item, 256, false))),
        make("span", { class: "who" }, "User ", make("bdi", {}, person.id)),
        make("span", { class: "quiet" }, facts.filter(Boolean).join(", ")),
      ),
    );
  });
  return [
    make("p", { class: "lead" }, "Start from somebody’s history, or press pictures above to build your own."),
    make("ul", { class: "people" }, ...some),
  ];
}

/** What the user took next, beside the history. */
export function drawNext(element, person) {
  element.hidden = !person || person.held_out.length === 0;
  if (element.hidden) return element.replaceChildren();
  const tiles = person.held_out.slice(0, 3).map((item) =>
    make("li", { class: "tile hit" }, picture(item, 256, true), titled(item, "span", { class: "caption" })),
  );
  const more = person.held_out.length - tiles.length;
  element.replaceChildren(
    make("h3", {}, "✓ Took next ", make("small", {}, more > 0 ? `and ${more} more` : "held out")),
    make("ol", { class: "strip" }, ...tiles),
  );
}

/** The written preference as it grew, block by block; words that the block before did not have stand out. */
export function drawPreference(element, person, changed) {
  if (!person || person.preference.length === 0) return element.replaceChildren();
  const open = element.querySelector("details")?.open ?? false;
  let before = null;
  const steps = person.preference.map((block) => {
    const thumbs = block.items.slice(0, 6).map((item) => make("li", { class: "thumb", title: quoted(item.title) }, picture(item, 128, true)));
    const more = block.items.length - thumbs.length;
    const text = make("blockquote", { dir: "auto" }, ...newWords(before, block.text));
    before = block.text;
    const titles = block.items.map((item) => quoted(item.title)).join(", ");
    return make(
      "li",
      {},
      make("ul", { class: "block" }, ...thumbs, more > 0 ? make("li", { class: "thumb quiet" }, `+${more}`) : null),
      make("div", {}, make("p", { class: "quiet", dir: "auto" }, `After ${titles}`), text),
    );
  });
  const note = `It was written for the user’s original history of ${count(person.history.length, "item")}, which you have changed since.`;
  element.replaceChildren(
    make(
      "details",
      { class: "preference", open },
      make("summary", {}, "Written preference ", make("small", {}, count(steps.length, "step"))),
      changed ? make("p", { class: "notice" }, note) : null,
      make("ol", { class: "steps" }, ...steps),
    ),
  );
}
