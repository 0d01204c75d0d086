// What the page shows, as it stands in the address: to be shared, and to go back to.

const DEFAULTS = { user: null, history: null, models: [], k: 10, diversity: 0, only: [], without: [], seen: false };
const LENGTHS = [5, 10, 20];
export const MOST_MODELS = 3;

/** The state that an address's fragment tells. `history` null means the demo user's own, or none. */
export function read(fragment) {
  const told = new URLSearchParams(fragment.replace(/^#/, ""));
  const k = Number(told.get("k"));
  const diversity = Number(told.get("diversity"));
  const conditions = (name) => told.getAll(name).filter((one) => one.indexOf("=") > 0).slice(0, 20);
  return {
    ...DEFAULTS,
    user: told.get("user") || null,
    // One empty item is a history that was emptied on purpose.
    history: told.has("item") ? told.getAll("item").filter(Boolean) : null,
    models: [...new Set(told.getAll("model").filter(Boolean))],
    k: LENGTHS.includes(k) ? k : DEFAULTS.k,
    diversity: diversity > 0 && diversity <= 1 ? diversity : 0,
    only: conditions("only"),
    without: conditions("without"),
    seen: told.get("seen") === "1",
  };
}

/** The fragment for a state; what is as usual is left out. */
export function write(state) {
  const told = new URLSearchParams();
  if (state.user !== null) told.append("user", state.user);
  if (state.history !== null) for (const id of state.history.length ? state.history : [""]) told.append("item", id);
  for (const name of state.models) told.append("model", name);
  if (state.k !== DEFAULTS.k) told.append("k", state.k);
  if (state.diversity > 0) told.append("diversity", state.diversity);
  for (const one of state.only) told.append("only", one);
  for (const one of state.without) told.append("without", one);
  if (state.seen) told.append("seen", "1");
  const text = told.toString();
  return text ? `#${text}` : "#";
}

/** What a recommendation is asked with, besides the history. */
export const asked = (state) => ({
  k: state.k,
  exclude_seen: !state.seen,
  diversity: state.diversity,
  only: state.only,
  without: state.without,
});
