// The service going away: a banner, and asking after its health at growing intervals until it answers.

import { ask } from "./api.js";
import { byId, say } from "./dom.js";

const FIRST = 1000;
const LONGEST = 30000;

export class Away {
  #timer = 0;
  #wait = FIRST;
  #asking = false;

  /** `back` is called, and waited for, when the service answers again. */
  constructor(back) {
    this.back = back;
    this.banner = byId("away");
    byId("away-now").addEventListener("click", () => this.#try());
    addEventListener("online", () => this.down && this.#try());
  }

  get down() {
    return !this.banner.hidden;
  }

  /** Somebody asked and nobody answered. */
  noticed() {
    if (this.down) return;
    this.banner.hidden = false;
    this.#wait = FIRST;
    this.#later();
  }

  #later() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#try(), this.#wait);
    this.#wait = Math.min(this.#wait * 2, LONGEST);
  }

  async #try() {
    if (this.#asking) return;
    this.#asking = true;
    clearTimeout(this.#timer);
    try {
      await ask("/healthz");
      this.banner.hidden = true;
      say("The service answers again.");
      await this.back();
    } catch {
      this.banner.hidden = false;
      this.#later();
    } finally {
      this.#asking = false;
    }
  }
}
