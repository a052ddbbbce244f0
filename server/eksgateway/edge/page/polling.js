// Reads a list again and again while the page is visible, and shows how old it is.

import { everySecond, make, setText } from "./dom.js";
import { problemBox } from "./problems.js";
import { Backoff, mayRetry, pause } from "./retries.js";
import { durationText, startStopwatch } from "./times.js";

const REFUSED_S = 30; // grants change

/** `read` throws CallError. Returns when the signal aborts. `element` has the state. */
export class Polling {
  element = make("div", { class: "polling" });
  #line = make("p", { class: "quiet" }, "Reading…");
  #problem = make("div", { role: "status" });
  #sinceRead = null;
  #seconds;
  #read;

  constructor(seconds, read) {
    this.#seconds = seconds;
    this.#read = read;
    this.element.append(this.#line, this.#problem);
  }

  async run(signal) {
    const backoff = new Backoff();
    everySecond(signal, () => this.#showAge());
    while (!signal.aborted) {
      let wait = this.#seconds;
      try {
        await this.#read();
        backoff.reset();
        this.#sinceRead = startStopwatch();
        this.#problem.replaceChildren();
        this.#showAge();
      } catch (error) {
        if (signal.aborted) return;
        wait = mayRetry(error) ? backoff.next(error) : REFUSED_S;
        if (this.#problem.dataset.shown !== error.message || !this.#problem.hasChildNodes())
          this.#problem.replaceChildren(problemBox(error));
        this.#problem.dataset.shown = error.message;
      }
      await pause(wait, signal).catch(() => {});
      await visible(signal);
    }
  }

  #showAge() {
    if (!this.#sinceRead) return;
    const age = this.#sinceRead();
    const isStale = age > 4 * this.#seconds;
    this.#line.classList.toggle("stale", isStale);
    setText(this.#line, `${isStale ? "STALE: read" : "Read"} ${durationText(age)} ago`);
  }
}

function visible(signal) {
  if (!document.hidden || signal.aborted) return null;
  return new Promise((resolve) => {
    document.addEventListener("visibilitychange", resolve, { once: true, signal });
    signal.addEventListener("abort", resolve, { once: true });
  });
}
