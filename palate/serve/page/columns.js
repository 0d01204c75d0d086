// A column: one model's list, what it becomes without an item, and the panel that explains an item.

import { Failed, Slot } from "./api.js";
import { compare, summed } from "./compare.js";
import { button, count, figure, make, quoted, titled } from "./dom.js";
import { fieldText } from "./fields.js";
import { remember } from "./items.js";
import { picture } from "./thumbnails.js";
import { Explanation } from "./explanation.js";

// Waiting shows only when it lasts, and a cascade that needs this long is not called by merely passing over a tile.
const SHOWN_AFTER = 250;
const SLOW = 1500;
const MOVING = 220;

export class Column {
  #rows = new Map();
  #main = new Slot();
  #other = new Slot();
  #body = null; // the body of the list shown, or being requested
  #stale = false;
  #base = null;
  #preview = null;
  #took = 0;
  #failure = null;
  #alike = null; // why this model cannot tell what is alike
  #explanation = null;

  constructor(facts, colour, app) {
    this.facts = facts;
    this.app = app;
    this.status = make("p", { class: "status quiet" });
    this.list = make("ol", { class: "ranked", "aria-label": `Recommendations of ${facts.name}` });
    this.problem = make("div", { class: "problem", role: "alert", hidden: true });
    this.element = make(
      "section",
      { class: `column c${colour % 8}`, "aria-label": facts.name },
      make(
        "div",
        { class: "column-head" },
        make("h3", {}, make("span", { class: "swatch", "aria-hidden": "true" }), make("bdi", {}, facts.name)),
        about(facts),
      ),
      this.status,
      this.problem,
      this.list,
    );
  }

  get unknown() {
    return this.#base?.unknown ?? [];
  }

  get slow() {
    return this.facts.retriever !== null && this.#took > SLOW;
  }

  /** Asks for a list, unless it is the one that is there. */
  async ask(body) {
    const text = JSON.stringify(body);
    if (text === this.#body && !this.#stale) return;
    this.#body = text;
    this.#stale = false;
    this.endPreview();
    await this.#fetch(this.#main, body, (answer) => {
      this.#base = answer;
      this.#draw();
      this.#explanation?.follow(this.#rows);
    });
  }

  /** What the list would be; `patient` also waits for a slow model. */
  async preview(body, patient) {
    if (!this.#base || (this.slow && !patient)) return;
    await this.#fetch(this.#other, body, (answer) => {
      this.#preview = answer;
      this.#draw();
    });
  }

  endPreview() {
    this.#other.cancel();
    if (!this.#stale) this.#failure = null;
    this.#wait();
    if (this.#preview === null) return;
    this.#preview = null;
    this.#draw();
  }

  /** Asks again for what did not come. */
  recover() {
    if (this.#stale && this.#body !== null) return this.ask(JSON.parse(this.#body));
  }

  async #fetch(slot, body, then) {
    const started = performance.now();
    this.#failure = null;
    const asking = this.#recommend(slot, body);
    this.#wait();
    try {
      const answer = await asking;
      if (answer === null) return;
      remember(answer.items);
      for (const item of answer.items) item.rules = answer.rules?.items[item.id] ?? [];
      this.#took = performance.now() - started;
      then(answer);
    } catch (error) {
      if (!(error instanceof Failed)) throw error;
      if (slot === this.#main) this.#stale = true;
      if (!error.unreachable) this.#failure = error; // the banner tells of that, and the list stays
    } finally {
      this.#wait();
    }
  }

  // A model that cannot tell which items are alike refuses diversity. Beside others that can, its list without is
  // better than none, as long as it says so.
  async #recommend(slot, body) {
    if (this.#alike !== null) return slot.ask("/v1/recommend", { ...body, diversity: 0 });
    try {
      return await slot.ask("/v1/recommend", body);
    } catch (error) {
      if (error.status !== 422 || !body.diversity) throw error;
      const answer = await slot.ask("/v1/recommend", { ...body, diversity: 0 });
      if (answer) this.#alike = error.message;
      return answer;
    }
  }

  #wait() {
    const busy = this.#main.busy || this.#other.busy;
    this.element.setAttribute("aria-busy", busy);
    clearTimeout(this.waiting);
    if (busy) this.waiting = setTimeout(() => this.element.classList.add("busy"), SHOWN_AFTER);
    else this.element.classList.remove("busy");
    this.#showState();
  }

  #showState() {
    const failure = this.#failure;
    this.problem.hidden = failure === null;
    if (failure) {
      this.problem.replaceChildren(
        make("p", {}, failure.message),
        failure.remedy ? make("p", { class: "quiet" }, failure.remedy) : "",
        button("Try again", () => (this.#stale ? this.recover() : this.endPreview())),
      );
    }
    this.list.classList.toggle("old", failure !== null && this.#stale);
    this.status.replaceChildren(...this.#state());
    this.status.classList.toggle("preview", this.#preview !== null);
  }

  #state() {
    if (this.#preview) return [`Without it: ${summed(compare(this.#base.items, this.#preview.items))}`];
    if (!this.#base) return [this.#failure ? "" : "Asking …"];
    const next = this.app.tookNext();
    const ranks = this.#base.items.flatMap((item, place) => (next.has(item.id) ? [place + 1] : []));
    const parts = [];
    if (ranks.length) parts.push(make("span", { class: "good" }, `✓ took next at rank ${ranks.join(", ")}`));
    else if (next.size) parts.push(`took next: not among these ${this.#base.items.length}`);
    else parts.push(count(this.#base.items.length, "item"));
    if (this.slow) parts.push(make("span", {}, `took ${(this.#took / 1000).toFixed(1)} s`));
    const diversity = this.#body ? JSON.parse(this.#body).diversity : 0;
    if (this.#alike && diversity) parts.push(make("span", { class: "remark" }, `Not diversified: ${this.#alike}.`));
    return parts;
  }

  #draw() {
    const after = (this.#preview ?? this.#base).items;
    const rows = compare(this.#base.items, after);
    const next = this.app.tookNext();
    const scale = scaled([...this.#base.items, ...after].map((item) => item.score));
    const focused = this.list.contains(document.activeElement) ? document.activeElement : null;
    const place = focused ? [...this.list.children].indexOf(focused.closest(".row")) : -1;
    const tops = new Map([...this.#rows].map(([id, row]) => [id, row.element.getBoundingClientRect().top]));

    const old = this.#rows;
    this.#rows = new Map();
    for (const row of rows) {
      const shown = old.get(row.item.id) ?? this.#row(row.item);
      shown.update(row, scale(row.item.score), next.has(row.item.id), this.#preview !== null);
      this.#rows.set(row.item.id, shown);
    }
    if (this.#explanation && !this.#rows.has(this.#explanation.item.id)) this.#closeExplanation(false);
    this.list.replaceChildren(...[...this.#rows.values()].map((row) => row.element));
    if (rows.length === 0) this.list.append(make("li", { class: "nothing quiet" }, "Nothing is left to recommend."));
    this.#showState();

    // Taking elements out and putting them back drops the focus: it stays on its row, or in its place.
    if (focused) {
      if (focused.isConnected) focused.focus({ preventScroll: true });
      else this.list.children[Math.min(place, this.list.children.length - 1)]?.querySelector("button")?.focus();
    }
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    for (const [id, row] of this.#rows) {
      const top = row.element.getBoundingClientRect().top;
      const moved = tops.has(id) ? tops.get(id) - top : 0;
      const from = tops.has(id) ? { transform: `translateY(${moved}px)` } : { opacity: 0 };
      if (moved || (!tops.has(id) && tops.size)) row.element.animate([from, {}], { duration: MOVING, easing: "ease-out" });
    }
  }

  #row(item) {
    const rank = make("span", { class: "rank" });
    const fill = make("span", { class: "fill" });
    const score = make("span", { class: "number" });
    const marks = make("p", { class: "marks" });
    const beside = make("p", { class: "beside", dir: "auto", hidden: true });
    const name = quoted(item.title);
    const why = button("Why?", () => this.#toggleExplanation(item, element, why), {
      "aria-label": `Why ${name}?`,
      "aria-expanded": "false",
    });
    const add = button("Add", () => this.app.add(item), {
      "aria-label": `Add ${name} to your history`,
    });
    const body = make(
      "div",
      { class: "body" },
      titled(item, "p", { class: "name" }),
      beside,
      make("div", { class: "score" }, make("span", { class: "bar", "aria-hidden": "true" }, fill), score),
      marks,
    );
    const head = make("div", { class: "head" }, rank, picture(item, 256, true), body, make("div", { class: "acts" }, why, add));
    const element = make("li", { class: "row" }, head);
    element.dataset.id = item.id;
    const update = (row, width, took, previewing) => {
      rank.textContent = row.change === "left" ? "–" : row.place + 1;
      fill.style.width = `${(100 * width).toFixed(1)}%`;
      const shown = row.item.score === null ? "not scored" : figure(row.item.score);
      score.replaceChildren(make("span", { class: "unseen" }, "score "), shown);
      marks.replaceChildren(
        ...changeMarks(row, previewing),
        took ? make("span", { class: "badge" }, "✓ took this next") : "",
        row.item.rules.length ? make("small", { class: "quiet" }, `rule: ${row.item.rules.join(", ")}`) : "",
      );
      const text = fieldText(row.item, this.app.field());
      beside.hidden = text === "";
      beside.textContent = text;
      beside.title = quoted(text);
      element.classList.toggle("hit", took);
      for (const change of ["new", "up", "down", "left"]) element.classList.toggle(change, row.change === change);
      // In the lists of today an item of the history can only be there because the filters allow it.
      const had = this.app.history().includes(item.id);
      add.disabled = had;
      add.textContent = had ? "Added" : "Add";
    };
    return { element, update, why };
  }

  #toggleExplanation(item, element, opener) {
    const same = this.#explanation?.item.id === item.id;
    this.#closeExplanation(false);
    if (same) return;
    this.#explanation = new Explanation(item, this.facts, this.app, () => this.#closeExplanation(true));
    this.#explanation.opener = opener;
    opener.setAttribute("aria-expanded", "true");
    opener.setAttribute("aria-controls", this.#explanation.element.id);
    element.append(this.#explanation.element);
    this.#explanation.ask();
  }

  #closeExplanation(back) {
    if (!this.#explanation) return;
    const { opener } = this.#explanation;
    this.#explanation.close();
    this.#explanation = null;
    opener.setAttribute("aria-expanded", "false");
    opener.removeAttribute("aria-controls");
    if (back) opener.focus();
  }

  /** Closes the panel, if one is open. */
  escape() {
    this.#closeExplanation(true);
  }

  /** Stops asking: the column goes. */
  close() {
    this.#main.cancel();
    this.#other.cancel();
    this.#closeExplanation(false);
    clearTimeout(this.waiting);
  }
}

// Scores that cannot be negative have a zero to stand on; others only an order, so the lowest shown has a short bar.
// An item that a rule put there may have none.
function scaled(all) {
  const scores = all.filter((score) => score !== null);
  const [low, high] = [Math.min(...scores), Math.max(...scores)];
  const floor = low >= 0 ? 0 : low - (high - low) * 0.08;
  return (score) => (score === null ? 0 : high > floor ? (score - floor) / (high - floor) : Number(high !== 0));
}

function changeMarks({ change, by }, previewing) {
  if (!previewing || change === "same") return [];
  const words = { new: "new", up: `▲ ${by}`, down: `▼ ${by}`, left: "leaves" }[change];
  const spoken = { new: "enters the list", up: `up ${by}`, down: `down ${by}`, left: "leaves the list" }[change];
  return [
    make("span", { class: `change ${change}`, "aria-hidden": "true" }, words),
    make("span", { class: "unseen" }, spoken),
  ];
}

function about(facts) {
  const rows = [
    ["Kind", facts.kind],
    ["Reads", facts.modalities.join(", ")],
    ["Neighbours", facts.neighbours?.map((one) => one.source).join(", ")],
    ["Trained with", facts.objective],
    ["Re-ranks", facts.retriever && `what ${facts.retriever} proposes`],
    ["Items", figure(facts.items)],
    ["Version", facts.version.slice(0, 12)],
    ...measures(facts.metrics),
  ].filter(([, value]) => value);
  const list = make("dl", { class: "facts" }, ...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  const short = [facts.kind === facts.name ? null : facts.kind, facts.retriever && `re-ranks ${facts.retriever}`];
  return make(
    "details",
    { class: "about" },
    make("summary", {}, short.filter(Boolean).join(", ") || "about", make("span", { class: "unseen" }, ` ${facts.name}`)),
    list,
  );
}

/** Numbers in whatever nesting, named by the way to them. */
function measures(metrics, way = []) {
  return Object.entries(metrics ?? {}).flatMap(([name, value]) => {
    if (typeof value === "number") return [[[...way, name].join(" "), value.toPrecision(3)]];
    return value && typeof value === "object" ? measures(value, [...way, name]) : [];
  }).slice(0, 8);
}
