// The door of a browser: answers come over HTTP, and where we are stands in the address.
import { View } from "./view.js";

const query = (params) => new URLSearchParams(Object.entries(params).filter(([, value]) => value !== undefined && value !== null && value !== "")).toString();
const answer = async (response) => {
  const told = response.headers.get("Content-Type")?.startsWith("application/json") ? await response.json() : { error: await response.text() };
  if (!response.ok) throw new Error(told.error || response.statusText);
  return told;
};
const door = {
  live: true,
  pairs: true,
  ask: async (what, params) => answer(await fetch(`api/${what}?${query(params)}`, { credentials: "same-origin" })),
  note: async (note) => answer(await fetch("api/note", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(note) })),
  frame: (frame, what, params) => { frame.src = `api/${what}?${query(params)}`; },
  place: () => { const [view, params] = location.hash.slice(1).split("?"); return { view: view || "runs", params: Object.fromEntries(new URLSearchParams(params ?? "")) }; },
  move: (to, quietly) => (quietly ? history.replaceState(null, "", to) : history.pushState(null, "", to)),
  moved: (call) => { addEventListener("popstate", call); },
};
new View(document.getElementById("view"), door).start().then(
  () => document.documentElement.classList.add("js"),
  (error) => { document.getElementById("view").textContent = error.message; },
);
