// Two lists of one model: what a change of the history did to the order.

/**
 * The rows to show: those of `after` in its order with what happened to each, then those that only `before` had.
 * `change` is "same", "new", "up", "down" or "left"; `by` counts places.
 */
export function compare(before, after) {
  const was = new Map(before.map((item, place) => [item.id, place]));
  const rows = after.map((item, place) => {
    const old = was.get(item.id);
    was.delete(item.id);
    if (old === undefined) return { item, place, change: "new", by: 0 };
    const by = old - place;
    return { item, place, change: by > 0 ? "up" : by < 0 ? "down" : "same", by: Math.abs(by) };
  });
  for (const place of was.values()) rows.push({ item: before[place], place, change: "left", by: 0 });
  return rows;
}

/** The same in a few words. */
export function summed(rows) {
  const entered = rows.filter((row) => row.change === "new").length;
  const left = rows.filter((row) => row.change === "left").length;
  const moved = rows.filter((row) => row.change === "up" || row.change === "down").length;
  const parts = [entered && `${entered} new`, moved && `${moved} moved`, left && `${left} left`].filter(Boolean);
  return parts.length ? parts.join(", ") : "no change";
}
