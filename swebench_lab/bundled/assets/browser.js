// The door of a browser: answers come over HTTP, and where we are stands in the address.
import { View } from "./view.js";

const query = (params) => new URLSearchParams(Object.entries(params).filter(([, value]) => value !== undefined && value !== null && value !== "")).toString();
const answer = async (response) => {
  const told = response.headers.get("Content-Type")?.startsWith("application/json") ? await response.json() : { error: await response.text() };
  if (!response.ok) throw Object.assign(new Error(told.error || response.statusText), { status: response.status });
  return told;
};
// The page's policy forbids inline styles, as the terminal writes them: they become properties, and rules of sheets.
function withoutInlineStyles() {
  const set = Element.prototype.setAttribute, make = document.createElement.bind(document);
  Element.prototype.setAttribute = function (name, value) { if (name === "style") this.style.cssText = value; else set.call(this, name, value); };
  document.createElement = (tag, ...more) => {
    if (tag !== "style") return make(tag, ...more);
    const sheet = new CSSStyleSheet(), place = make("i");
    let home = null;
    const leave = () => { if (home) home.adoptedStyleSheets = home.adoptedStyleSheets.filter((one) => one !== sheet); home = null; };
    const join = () => { const root = place.getRootNode(); if (root !== home && root.adoptedStyleSheets) { leave(); home = root; home.adoptedStyleSheets = [...home.adoptedStyleSheets, sheet]; } };
    Object.defineProperties(place, { sheet: { get: () => { join(); return sheet; } }, textContent: { set: (rules) => { sheet.replaceSync(rules); join(); queueMicrotask(join); } } });
    place.remove = () => { leave(); Element.prototype.remove.call(place); };
    place.hidden = true;
    return place;
  };
}
let patched = false;
const door = {
  live: true,
  pairs: true,
  ask: async (what, params) => answer(await fetch(`api/${what}?${query(params)}`, { credentials: "same-origin" })),
  post: async (what, params) => answer(await fetch(`api/${what}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(params) })),
  link: () => location.href,
  file: async (name) => (await fetch(name)).text(),
  module: (name) => { if (name === "xterm.mjs" && !patched) { patched = true; withoutInlineStyles(); } return import(`./${name}`); },
  frame: (frame, what, params) => { frame.src = `api/${what}?${query(params)}`; },
  place: () => { const [view, params] = location.hash.slice(1).split("?"); return { view: view || "runs", params: Object.fromEntries(new URLSearchParams(params ?? "")) }; },
  move: (to, quietly) => (quietly ? history.replaceState(null, "", to) : history.pushState(null, "", to)),
  moved: (call) => { addEventListener("popstate", call); },
};
new View(document.getElementById("view"), door).start().then(
  () => document.documentElement.classList.add("js"),
  (error) => { document.getElementById("view").textContent = error.message; },
);
