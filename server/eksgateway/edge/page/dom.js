// Makes elements. Text becomes text nodes only, never HTML.

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== undefined && value !== null && value !== false)
      element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Writes only a new text, so that screen readers hear it once. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** For screen readers. */
export const announce = (text) => setText(byId("announcement"), text);

/** Pairs of a name and its content; those without content are left out. */
export function fields(pairs) {
  const shown = pairs.filter(([, content]) => content !== undefined && content !== null && content !== "");
  return make(
    "dl",
    { class: "fields" },
    shown.map(([name, content]) => make("div", {}, make("dt", {}, name), make("dd", {}, content))),
  );
}

export const code = (text) => (text ? make("code", {}, text) : "");

/** Runs now and each second until the signal. */
export function everySecond(signal, run) {
  run();
  const timer = setInterval(run, 1000);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
}
