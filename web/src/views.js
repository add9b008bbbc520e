// The workbench as one front-end module (anywidget form): the same code in a page, a notebook and a file on disk.
import { render } from "preact";
import { html } from "htm/preact";
import { App } from "./app.js";
import { httpSource, pageSource, widgetSource } from "./source.js";

/** Draw the workbench into an element. source: see source.js; options: {start, hash} what is open at first. */
export function open(element, source, options = {}) {
  element.classList.add("molifold");
  render(html`<${App} source=${source} ...${options} />`, element);
  return () => render(null, element);
}

/** The form that anywidget wants. */
export default {
  render: ({ model, el }) => open(el, widgetSource(model), { model, start: model.get("start") ?? {}, compact: true }),
};

const place = typeof document === "undefined" ? null : document.querySelector("[data-molifold]");
if (place) {
  const blocks = document.querySelector("script[data-blocks]");
  const source = blocks ? pageSource(JSON.parse(blocks.textContent)) : httpSource(new URLSearchParams(location.search).get("token") ?? "");
  open(place, source, { hash: window === window.top, start: blocks ? JSON.parse(place.dataset.start || "{}") : {} });
}
