// The dialog for the key of a service that requires one.

import { unlock } from "./api.js";
import { make } from "./dom.js";

let dialog = null;

/** Asks, with the service's own words, and calls `then` once there is a key to try. */
export function askForKey(error, then) {
  if (dialog) return;
  const value = make("input", { id: "api-key-value", type: "password", autocomplete: "off", required: true });
  const form = make(
    "form",
    {},
    make("h2", { id: "api-key-title" }, "A key, please"),
    make("p", { class: "quiet" }, `${error.message[0].toUpperCase()}${error.message.slice(1)}. It is kept in this tab until you close it.`),
    make("label", { for: "api-key-value" }, "Key"),
    value,
    make("button", { class: "primary" }, "Continue"),
  );
  dialog = make("dialog", { id: "api-key", "aria-labelledby": "api-key-title" }, form);
  let entered = null;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    entered = value.value.trim();
    if (entered) dialog.close();
  });
  dialog.addEventListener("close", () => {
    dialog.remove();
    dialog = null;
    if (!entered) return;
    unlock(entered);
    then();
  });
  document.body.append(dialog);
  dialog.showModal();
}
