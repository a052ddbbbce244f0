// Tables whose rows stay in place while their content changes, so that the focus stays too.

import { make } from "./dom.js";

export class Table {
  #rows = new Map(); // by key: the row, and the text of what it shows
  #columns;
  #body = make("tbody", { role: "rowgroup" });
  #empty = make("p", { class: "quiet", hidden: true });

  /** `empty` stands in place of a table without rows. */
  constructor(caption, columns, empty) {
    this.#columns = columns;
    this.#empty.textContent = empty;
    const heads = columns.map((name) => make("th", { role: "columnheader", scope: "col" }, name));
    const head = make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, heads));
    const title = make("caption", { class: "hidden-text" }, caption);
    this.table = make("table", { role: "table", hidden: true }, title, head, this.#body);
    this.element = make("div", { class: "table" }, this.table, this.#empty);
  }

  /** `cellsOf` gives the content of each cell, and is called again for an item that has changed only. */
  show(items, keyOf, cellsOf) {
    const gone = new Map(this.#rows);
    items.forEach((item, index) => {
      const key = keyOf(item);
      gone.delete(key);
      const row = this.#updateRow(key, item, cellsOf);
      if (this.#body.children[index] !== row) this.#body.insertBefore(row, this.#body.children[index] ?? null);
    });
    for (const [key, { row }] of gone) {
      row.remove();
      this.#rows.delete(key);
    }
    this.table.hidden = items.length === 0;
    this.#empty.hidden = items.length > 0;
  }

  #updateRow(key, item, cellsOf) {
    const text = JSON.stringify(item);
    const known = this.#rows.get(key);
    if (known?.text === text) return known.row;
    const row = known?.row ?? make("tr", { role: "row" });
    const focused = [...row.querySelectorAll("a, button")].indexOf(document.activeElement);
    const cells = cellsOf(item).map((content, index) =>
      make("td", { role: "cell", "data-label": this.#columns[index] }, content),
    );
    row.replaceChildren(...cells);
    if (focused >= 0) row.querySelectorAll("a, button")[focused]?.focus();
    this.#rows.set(key, { row, text });
    return row;
  }
}
