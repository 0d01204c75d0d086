// The connection to the service: a banner while it does not answer, and a health check at growing intervals.

import { ask } from "./api.js";
import { announce, byId } from "./dom.js";

const FIRST = 1000;
const LONGEST = 30000;

export class Connection {
  #timer = 0;
  #wait = FIRST;
  #checking = false;

  /** `restored` is called, and waited for, when the service answers again. */
  constructor(restored) {
    this.restored = restored;
    this.banner = byId("connection");
    byId("connection-retry").addEventListener("click", () => this.#try());
    addEventListener("online", () => this.lost && this.#try());
  }

  get lost() {
    return !this.banner.hidden;
  }

  /** A request was not answered. */
  noticeLoss() {
    if (this.lost) return;
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
    if (this.#checking) return;
    this.#checking = true;
    clearTimeout(this.#timer);
    try {
      await ask("/healthz");
      this.banner.hidden = true;
      announce("The service answers again.");
      await this.restored();
    } catch {
      this.banner.hidden = false;
      this.#later();
    } finally {
      this.#checking = false;
    }
  }
}
