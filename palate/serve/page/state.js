// What the page shows, as it stands in the address: to be shared, and to go back to.

const DEFAULTS = { user: null, history: null, models: [], k: 10, diversity: 0, only: [], without: [], seen: false, field: null };
const LENGTHS = [5, 10, 20];
export const MOST_MODELS = 3;

/** The state in an address's fragment. `history` null means the demo user's own, or none. */
export function read(fragment) {
  const parameters = new URLSearchParams(fragment.replace(/^#/, ""));
  const k = Number(parameters.get("k"));
  const diversity = Number(parameters.get("diversity"));
  const conditions = (name) => parameters.getAll(name).filter((one) => /^.+?[=<>]/s.test(one)).slice(0, 20);
  return {
    ...DEFAULTS,
    user: parameters.get("user") || null,
    // One empty item is a history that was emptied on purpose.
    history: parameters.has("item") ? parameters.getAll("item").filter(Boolean) : null,
    models: [...new Set(parameters.getAll("model").filter(Boolean))],
    k: LENGTHS.includes(k) ? k : DEFAULTS.k,
    diversity: diversity > 0 && diversity <= 1 ? diversity : 0,
    only: conditions("only"),
    without: conditions("without"),
    seen: parameters.get("seen") === "1",
    field: parameters.get("field") || null,
  };
}

/** The fragment for a state; what is as usual is left out. */
export function write(state) {
  const parameters = new URLSearchParams();
  if (state.user !== null) parameters.append("user", state.user);
  if (state.history !== null) for (const id of state.history.length ? state.history : [""]) parameters.append("item", id);
  for (const name of state.models) parameters.append("model", name);
  if (state.k !== DEFAULTS.k) parameters.append("k", state.k);
  if (state.diversity > 0) parameters.append("diversity", state.diversity);
  for (const one of state.only) parameters.append("only", one);
  for (const one of state.without) parameters.append("without", one);
  if (state.seen) parameters.append("seen", "1");
  if (state.field !== null) parameters.append("field", state.field);
  const text = parameters.toString();
  return text ? `#${text}` : "#";
}

/** Options of a recommendation, besides the history. */
export const requestOptions = (state) => ({
  k: state.k,
  exclude_seen: !state.seen,
  diversity: state.diversity,
  only: state.only,
  without: state.without,
  fields: state.field !== null,
  record: false, // nobody shops here: these answers are no exposure
  explain_rules: true,
});
