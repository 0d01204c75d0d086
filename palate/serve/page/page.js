// The page: one state, which stands in the address; whatever is pressed changes it, and everything is drawn from it.

import { ask, Failed, listen } from "./api.js";
import { Connection } from "./connection.js";
import { Catalogue, slashSearches } from "./catalogue.js";
import { Column } from "./columns.js";
import { announce, button, byId, count, make, quoted, titled } from "./dom.js";
import { fieldsOf } from "./fields.js";
import { buildFilters } from "./filters.js";
import { HistoryStrip } from "./history.js";
import { itemOf, remember, fetchUnknown } from "./items.js";
import { askForKey } from "./apiKey.js";
import { cards, drawNext, drawPreference, fillPicker } from "./people.js";
import { MOST_MODELS, read, requestOptions, write } from "./state.js";
import { retryMissing } from "./thumbnails.js";

const NARROW = "(max-width: 720px)";
const TOAST = 8000;

let state = read(location.hash);
let models = [];
let people = new Map();
let columns = new Map();
let without = null; // the item that a preview leaves out: { id, title, pinned }
let closed = false; // the catalogue was closed by hand

// ---- what the state means

const person = () => people.get(state.user) ?? null;
const ownHistory = () => person()?.history.map((item) => item.id) ?? [];
const history = () => state.history ?? ownHistory();
const changed = () => state.history !== null && state.history.join("\n") !== ownHistory().join("\n");
const tookNext = () => new Set(person()?.held_out.map((item) => item.id));

function chosen() {
  const loaded = models.map((facts) => facts.name);
  const known = state.models.filter((name) => loaded.includes(name)).slice(0, MOST_MODELS);
  return known.length ? known : loaded.slice(0, matchMedia(NARROW).matches ? 1 : MOST_MODELS);
}

const requestBody = (name, items) => ({ model: name, history: items, ...requestOptions(state) });

// ---- changing it

/** Takes a change, writes it into the address and draws. `quiet` replaces the address rather than adding to the way back. */
function change(patch, quiet = false) {
  state = { ...state, models: chosen(), ...patch };
  if (state.history !== null && !changed()) state.history = null;
  const address = location.pathname + location.search + write(state);
  if (quiet) window.history.replaceState(null, "", address);
  else window.history.pushState(null, "", address);
  return draw();
}

function add(item) {
  if (history().includes(item.id)) return;
  remember([item]);
  change({ history: [...history(), item.id] });
  toast(["Added ", titled(item)], null);
}

function remove(item) {
  const before = history();
  if (!before.includes(item.id)) return;
  change({ history: before.filter((id) => id !== item.id) });
  toast(["Removed ", titled(item)], () => change({ history: before }));
}

function choosePerson(id) {
  closed = false;
  catalogue.close();
  change({ user: id, history: null });
}

// ---- without one item

function preview(item, pinned) {
  if (without?.pinned && !pinned) return;
  if (without?.pinned && without.id === item.id) return endPreview(true);
  without = { id: item.id, item, pinned };
  drawWithout();
  const items = history().filter((id) => id !== item.id);
  for (const column of columns.values()) column.preview(requestBody(column.facts.name, items), pinned);
  if (pinned) announce(`The lists without ${quoted(item.title)}. Your history is as it was.`);
}

function endPreview(pinned = false) {
  if (without === null || (without.pinned && !pinned)) return;
  without = null;
  for (const column of columns.values()) column.endPreview();
  drawWithout();
}

function drawWithout() {
  const place = byId("what-if");
  strip.draw(history(), without);
  place.classList.toggle("on", without !== null);
  if (without === null) {
    const rest = matchMedia("(hover: hover)").matches ? "Rest on a tile, or press" : "Press";
    const hint = `${rest} “What if?”, to see the lists without an item.`;
    place.replaceChildren(history().length ? make("p", { class: "quiet" }, hint) : "");
    return;
  }
  const { item, pinned } = without;
  const waiting = [...columns.values()].filter((column) => column.slow && !pinned).map((column) => column.facts.name);
  const text = make("p", {}, "The lists without ", titled(item, "strong"), ".");
  if (waiting.length) text.append(make("span", { class: "quiet" }, ` ${waiting.join(", ")} takes its time: press “What if?” to ask it too.`));
  const keep = button("Remove it", () => remove(item), { class: "primary" });
  place.replaceChildren(text, ...(pinned ? [keep, button("Keep it", () => endPreview(true))] : []));
}

// ---- drawing

async function draw() {
  const ids = history();
  if (without !== null) endPreview(true);
  drawHistory(ids);
  drawModels();
  drawColumns();
  const fields = [...new Set(columnFacts().flatMap((facts) => facts.fields))];
  showFilters(state, fields);
  drawField(fields);
  catalogue.draw();
  byId("k").value = state.k;
  byId("person").value = person() ? state.user : "";
  const asking = [...columns.values()].map((column) => column.ask(requestBody(column.facts.name, ids)).then(drawNotices));
  await Promise.all([fetchUnknown(ids).then(() => drawHistory(history())), ...asking]);
  drawNotices();
  if (asking.length && !connection.lost) announce(`Recommendations of ${[...columns.keys()].join(", ")} are there.`);
}

function drawHistory(ids) {
  const facts = person()
    ? ["User ", make("bdi", {}, state.user), `, ${count(ids.length, "item")}${changed() ? ", changed by you" : ""}`]
    : [count(ids.length, "item")];
  byId("history").hidden = false;
  byId("history-facts").replaceChildren(...facts);
  byId("history-restore").hidden = !person() || !changed();
  byId("history-clear").hidden = ids.length === 0;
  byId("history-title").textContent = person() && !changed() ? "History" : "Your history";
  const empty = ids.length === 0;
  byId("history-strip").hidden = empty;
  let start = byId("start");
  if (!empty) start?.remove();
  else if (!start) byId("history").append(make("div", { id: "start" }, ...cards([...people.values()], choosePerson)));
  if (empty && !closed) catalogue.open();
  drawNext(byId("took-next"), person());
  drawPreference(byId("preference"), person(), changed());
  drawWithout();
}

/** The choice of what stands beside each title. */
function drawField(fields) {
  const place = byId("field");
  const options = fields.includes(state.field) || state.field === null ? fields : [...fields, state.field];
  if ([...place.options].slice(1).map((option) => option.value).join("\n") !== options.join("\n") || !place.length) {
    place.replaceChildren(make("option", { value: "" }, "nothing"), ...options.map((name) => make("option", { value: name }, name)));
  }
  place.value = state.field ?? "";
  place.parentElement.hidden = options.length === 0;
}

const columnFacts = () => chosen().map((name) => models.find((facts) => facts.name === name));

function drawModels() {
  const shown = chosen();
  const focused = byId("models").contains(document.activeElement) ? document.activeElement.dataset.name : null;
  byId("models").replaceChildren(
    ...models.map((facts, at) => {
      const on = shown.includes(facts.name);
      const full = !on && shown.length >= MOST_MODELS;
      const toggle = () => change({ models: on ? shown.filter((name) => name !== facts.name) : [...shown, facts.name] });
      return make(
        "button",
        {
          type: "button",
          class: `toggle c${at % 8}`,
          "data-name": facts.name,
          "aria-pressed": on,
          disabled: full || (on && shown.length === 1),
          title: full ? `${MOST_MODELS} at most: take one away first` : null,
          onclick: toggle,
        },
        make("span", { class: "swatch", "aria-hidden": "true" }),
        make("bdi", {}, facts.name),
      );
    }),
  );
  if (focused !== null) [...byId("models").children].find((one) => one.dataset.name === focused && !one.disabled)?.focus();
}

function drawColumns() {
  const old = columns;
  columns = new Map(
    columnFacts().map((facts) => {
      const had = old.get(facts.name);
      // Another version is another model: what it said before is not its answer.
      const same = had && had.facts.version === facts.version;
      return [facts.name, same ? had : new Column(facts, models.indexOf(facts), app)];
    }),
  );
  for (const column of old.values()) if (columns.get(column.facts.name) !== column) column.close();
  const place = byId("columns");
  const elements = [...columns.values()].map((column) => column.element);
  if (elements.some((element, at) => element !== place.children[at]) || elements.length !== place.children.length) {
    place.replaceChildren(...elements);
  }
  place.dataset.number = elements.length;
  byId("lists").hidden = elements.length === 0;
}

function drawNotices() {
  const notices = [];
  if (state.user !== null && !person()) notices.push([`There is no demo user “${quoted(state.user)}” here.`]);
  const loaded = new Set(models.map((facts) => facts.name));
  const absent = state.models.filter((name) => !loaded.has(name));
  if (absent.length) notices.push([`Not loaded here: ${absent.map(quoted).join(", ")}.`]);
  // The same items are often unknown to several models: one sentence for those.
  const by = new Map();
  for (const id of new Set(history())) {
    const names = [...columns.values()].filter((column) => column.unknown.includes(id)).map((column) => column.facts.name);
    if (names.length) by.set(names.join(", "), [...(by.get(names.join(", ")) ?? []), id]);
  }
  for (const [names, ids] of by) {
    const drop = button(ids.length > 1 ? "Leave them out" : "Leave it out", () => change({ history: history().filter((id) => !ids.includes(id)) }));
    notices.push([`Not known to ${names}: ${ids.map((id) => quoted(itemOf(id).title)).join(", ")}.`, drop]);
  }
  const made = notices.map(([text, ...more]) => make("div", { class: "notice" }, make("p", {}, text), ...more));
  const text = (nodes) => [...nodes].map((node) => node.textContent).join("\n");
  // Said again only when it is something else: it is read aloud.
  if (text(made) !== text(byId("notices").children)) byId("notices").replaceChildren(...made);
}

let fading = 0;

function toast(content, undo) {
  const place = byId("toast");
  clearTimeout(fading);
  const hide = () => (place.hidden = true);
  place.replaceChildren(make("p", {}, ...content), undo ? button("Undo", () => (hide(), undo())) : "");
  place.hidden = false;
  announce(place.querySelector("p").textContent);
  fading = setTimeout(hide, TOAST);
}

// ---- what the parts may do

const app = { add, history, tookNext, field: () => state.field };
const connection = new Connection(start);
const strip = new HistoryStrip(byId("history-strip"), { remove, preview, endPreview });
const showFilters = buildFilters(byId("filters"), change, async (name) => {
  const facts = columnFacts().find((one) => one.fields.includes(name));
  return facts && (await fieldsOf(facts)).get(name);
});
const catalogue = new Catalogue(byId("catalogue"), byId("query"), {
  history,
  toggle: (item) => (history().includes(item.id) ? remove(item) : add(item)),
  closed: (within) => {
    closed = true;
    if (within) byId("history-browse").focus();
  },
});

listen({ unreachable: () => connection.noticeLoss(), locked: (error) => askForKey(error, start) });
slashSearches(byId("query"));
byId("field").addEventListener("change", (event) => change({ field: event.target.value || null }));
byId("k").addEventListener("change", (event) => change({ k: Number(event.target.value) }));
byId("history-clear").addEventListener("click", () => {
  const before = state;
  change({ history: [] });
  toast(["Cleared the history"], () => change({ history: before.history }));
});
byId("history-restore").addEventListener("click", () => change({ history: null }));
byId("history-browse").addEventListener("click", () => {
  catalogue.open();
  byId("query").focus();
});
// A link would put its own fragment where the state stands.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("lists").focus();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if (without?.pinned) endPreview(true);
  else if (event.target === document.body) for (const column of columns.values()) column.escape();
});
addEventListener("popstate", () => {
  state = read(location.hash);
  draw();
});

// ---- beginning, and beginning again

/** Learns what is there and draws; again after the connection was lost, since it may have come back with other models. */
async function start() {
  try {
    const [loaded, users] = await Promise.all([ask("/v1/models"), ask("/v1/users")]);
    models = loaded.models;
    people = new Map(users.users.map((one) => [one.id, one]));
    for (const one of people.values()) remember([...one.history, ...one.held_out, ...one.preference.flatMap((block) => block.items)]);
    fillPicker([...people.values()], choosePerson);
  } catch (error) {
    if (!(error instanceof Failed)) throw error;
    if (error.status >= 500) connection.noticeLoss();
    else if (!error.unreachable && error.status !== 401) byId("notices").replaceChildren(make("p", { class: "notice" }, error.message));
    return;
  }
  retryMissing();
  await Promise.all([...[...columns.values()].map((column) => column.recover()), catalogue.recover(), draw()]);
}

start();
