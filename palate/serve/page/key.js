// Asking for the key of a service that wants one.

import { unlock } from "./api.js";
import { make } from "./dom.js";

let dialog = null;

/** Asks, with the service's own words, and calls `then` once there is a key to try. */
export function askForKey(told, then) {
  if (dialog) return;
  const value = make("input", { id: "key-value", type: "password", autocomplete: "off", required: true });
  const form = make(
    "form",
    {},
    make("h2", { id: "key-title" }, "A key, please"),
    make("p", { class: "quiet" }, `${told.message[0].toUpperCase()}${told.message.slice(1)}. It is kept in this tab until you close it.`),
    make("label", { for: "key-value" }, "Key"),
    value,
    make("button", { class: "primary" }, "Continue"),
  );
  dialog = make("dialog", { id: "key", "aria-labelledby": "key-title" }, form);
  let given = null;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    given = value.value.trim();
    if (given) dialog.close();
  });
  dialog.addEventListener("close", () => {
    dialog.remove();
    dialog = null;
    if (!given) return;
    unlock(given);
    then();
  });
  document.body.append(dialog);
  dialog.showModal();
}
