// Which words of a text are new: the longest common subsequence of words with the text before.

import { make } from "./dom.js";

const MOST = 600; // words; the table below is quadratic

/** The text as nodes, with the words that `before` did not have marked as inserted. */
export function newWords(before, text) {
  if (before === null) return [text];
  const [old, now] = [before, text].map((one) => one.split(/\s+/).filter(Boolean));
  if (Math.max(old.length, now.length) > MOST) return [text];
  // common[i][j]: how many words old[i..] and now[j..] share in order
  const common = Array.from({ length: old.length + 1 }, () => new Uint16Array(now.length + 1));
  for (let i = old.length - 1; i >= 0; i--) {
    for (let j = now.length - 1; j >= 0; j--) {
      common[i][j] = old[i] === now[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
    }
  }
  const nodes = [];
  let fresh = [];
  const flush = () => {
    if (fresh.length) nodes.push(make("ins", {}, fresh.join(" ")), " ");
    fresh = [];
  };
  for (let i = 0, j = 0; j < now.length; ) {
    if (i < old.length && old[i] === now[j]) {
      flush();
      nodes.push(`${now[j]} `);
      i++;
      j++;
    } else if (i < old.length && common[i + 1][j] >= common[i][j + 1]) {
      i++;
    } else {
      fresh.push(now[j]);
      j++;
    }
  }
  flush();
  return nodes;
}
