// What the lists are narrowed by: diversity, conditions on the catalogue's fields, what is already in the history.

import { after, button, make } from "./dom.js";

const SLIDING = 180;
let built = 0;

/** Fills the disclosure once; gives a function that shows a state and the fields to choose from. */
export function buildFilters(details, change) {
  const title = make("summary", {}, "Filters");
  const shown = make("output");
  const slider = make("input", { type: "range", min: 0, max: 1, step: 0.1, id: "diversity" });
  const moved = after(SLIDING, () => change({ diversity: Number(slider.value) }, true));
  slider.addEventListener("input", () => {
    shown.textContent = Number(slider.value).toFixed(1);
    moved();
  });
  const seen = make("input", { type: "checkbox", onchange: () => change({ seen: seen.checked }) });
  const field = make("select", { "aria-label": "Field" });
  const value = make("input", { type: "text", "aria-label": "Value", placeholder: "value", autocomplete: "off", maxlength: 400 });
  const chips = make("ul", { class: "chips", "aria-label": "Conditions" });
  const form = make(
    "form",
    { class: "condition" },
    field,
    make("span", { "aria-hidden": "true" }, "="),
    value,
    make("button", { value: "only" }, "Only these"),
    make("button", { value: "without" }, "None of these"),
  );
  let now = { only: [], without: [] };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const kind = event.submitter?.value || "only";
    const text = value.value.trim();
    if (!text || !field.value) return value.focus();
    change({ [kind]: [...new Set([...now[kind], `${field.value}=${text}`])] });
    value.value = "";
  });
  const hint = make("p", { class: "quiet", id: `filters-${++built}` }, "At 0 the order is the model’s; above, each next item is also chosen for being unlike those before it.");
  slider.setAttribute("aria-describedby", hint.id);
  const conditions = make("div", {}, make("h3", {}, "Conditions"), form, chips);
  details.append(
    title,
    make(
      "div",
      { class: "filter-grid" },
      make("div", {}, make("label", { for: "diversity" }, "Diversity ", shown), slider, hint),
      conditions,
      make("div", {}, make("label", { class: "inline" }, seen, "Also recommend what is in the history")),
    ),
  );

  const chip = (kind, one) => {
    const words = `${kind === "only" ? "only" : "no"} ${one.replace("=", " = ")}`;
    const drop = button("×", () => {
      change({ [kind]: now[kind].filter((other) => other !== one) });
      value.focus();
    }, { "aria-label": `Drop the condition: ${words}` });
    return make("li", { class: "chip" }, make("bdi", {}, words), drop);
  };

  return (state, fields) => {
    now = state;
    const active = state.only.length + state.without.length + (state.diversity > 0) + state.seen;
    title.textContent = active ? `Filters: ${active} on` : "Filters";
    if (document.activeElement !== slider) slider.value = state.diversity;
    shown.textContent = Number(slider.value).toFixed(1);
    seen.checked = state.seen;
    conditions.hidden = fields.length === 0;
    const names = [...field.options].map((option) => option.value);
    if (names.join("\n") !== fields.join("\n")) {
      const chosen = field.value;
      field.replaceChildren(...fields.map((name) => make("option", { value: name }, name)));
      if (fields.includes(chosen)) field.value = chosen;
    }
    chips.replaceChildren(...state.only.map((one) => chip("only", one)), ...state.without.map((one) => chip("without", one)));
  };
}
