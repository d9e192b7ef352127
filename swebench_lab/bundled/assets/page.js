"use strict";
(() => {
  const steps = [...document.querySelectorAll("article.step")];
  const rail = document.querySelector(".rail");
  const live = document.getElementById("live");
  const help = document.getElementById("help");
  const links = new Map([...document.querySelectorAll(".rail a")].map((a) => [a.hash.slice(1), a]));
  let at = -1;
  const framed = parent !== window; // the viewer shows this page in a frame; words and numbers are all that passes between them
  const tell = (what) => framed && parent.postMessage({ lab: what, step: at }, "*");
  let jumped = -1; // how far a jump scrolled: the observer must not take the mark away from a step that could not reach the top

  document.documentElement.classList.add("js");

  // Of very long attempts, the folded parts of texts are stored compressed, behind all else: the page does not wait for them.
  const whole = new Promise((done) => (document.readyState === "loading" ? addEventListener("DOMContentLoaded", done) : done()));
  const unpacked = new Map();
  const decompress = async (id) => {
    if (!document.getElementById(id)?.nextSibling) await whole;
    const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  };
  const unpack = (place) => {
    const id = `pack-${place.dataset.pack}`;
    if (!unpacked.has(id)) unpacked.set(id, decompress(id));
    return unpacked.get(id);
  };
  const show = async (fold) => {
    const place = fold.querySelector(".packed");
    if (!place) return;
    const text = await unpack(place);
    if (!place.isConnected) return;
    place.replaceWith(Object.assign(document.createElement("pre"), { className: "cont", textContent: text }));
  };
  document.addEventListener("toggle", (event) => { if (event.target.open) show(event.target); }, true);

  const search = document.getElementById("search");
  const found = document.getElementById("found");
  let searches = 0;
  const says = async (step, words) => {
    if (step.querySelector(".inside").textContent.toLowerCase().includes(words)) return true;
    for (const place of step.querySelectorAll(".packed")) if ((await unpack(place)).toLowerCase().includes(words)) return true;
    return false;
  };
  const look = async () => {
    const mine = ++searches, words = search.value.trim().toLowerCase();
    const hits = words ? [] : steps.map(() => true);
    for (const step of words ? steps : []) {
      hits.push(await says(step, words));
      if (mine !== searches) return;
    }
    steps.forEach((step, index) => {
      step.classList.toggle("unfound", !hits[index]);
      links.get(step.id)?.parentElement.classList.toggle("unfound", !hits[index]);
    });
    found.textContent = words ? `${hits.filter(Boolean).length} of ${steps.length} steps` : "";
  };
  let soon = 0;
  search?.addEventListener("input", () => { clearTimeout(soon); soon = setTimeout(look, 200); });

  const visible = (step) => step.offsetParent !== null;
  const mark = (index) => {
    if (index === at) return;
    steps[at]?.classList.remove("at");
    links.get(steps[at]?.id)?.removeAttribute("aria-current");
    at = index;
    const step = steps[at];
    if (!step) return;
    tell("at");
    step.classList.add("at");
    const link = links.get(step.id);
    if (!link) return;
    link.setAttribute("aria-current", "step");
    const top = link.offsetTop - rail.offsetTop;
    if (top < rail.scrollTop || top > rail.scrollTop + rail.clientHeight - 40) rail.scrollTop = top - rail.clientHeight / 2;
  };
  const go = (index) => {
    const step = steps[index];
    if (!step) return;
    mark(index);
    if (!framed) history.replaceState(null, "", "#" + step.id);
    step.focus({ preventScroll: true });
    step.scrollIntoView({ block: "start", behavior: "instant" });
    jumped = scrollY;
    live.textContent = [...step.querySelectorAll("h3, .chip")].map((part) => part.textContent).join(", ") + ", last is " + (steps.length - 1);
  };
  const move = (by) => {
    let index = at + by;
    while (steps[index] && !visible(steps[index])) index += by;
    if (steps[index]) go(index);
  };
  const end = (from, by) => {
    let index = from;
    while (steps[index] && !visible(steps[index])) index += by;
    go(index);
  };
  const unfold = () => {
    const folds = [...(steps[at] ?? document).querySelectorAll("details")];
    const open = folds.some((fold) => !fold.open);
    for (const fold of folds) fold.open = open;
  };
  const actions = {
    ArrowRight: () => move(1), l: () => move(1), ArrowLeft: () => move(-1), h: () => move(-1),
    0: () => end(0, 1), $: () => end(steps.length - 1, -1),
    j: () => scrollBy(0, 120), k: () => scrollBy(0, -120), e: unfold,
    i: () => document.getElementById("issue")?.scrollIntoView(), p: () => document.getElementById("patch")?.scrollIntoView(),
    "/": () => search?.focus(),
    t: () => document.getElementById("tests")?.scrollIntoView(), "?": () => (help.open ? help.close() : help.showModal()),
  };
  if (framed) Object.assign(actions, { ArrowDown: () => tell("next"), ArrowUp: () => tell("previous"), Escape: () => tell("back"), r: () => tell("enter") });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === search) {
      if (event.key === "Escape") search.blur();
      else if (event.key === "Enter") look();
      return;
    }
    if (event.target instanceof HTMLInputElement && event.key.startsWith("Arrow")) return;
    if (help.open && event.key !== "?") return; // Escape closes it
    const action = Object.hasOwn(actions, event.key) && actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  const follow = () => {
    const index = steps.findIndex((step) => "#" + step.id === location.hash);
    if (index < 0) return;
    const filter = document.getElementById("f-" + steps[index].dataset.kind);
    if (filter) filter.checked = true;
    go(index);
  };
  addEventListener("hashchange", follow);
  const hint = async (words) => {
    search.value = words;
    let hits = 0;
    for (const step of steps) hits += await says(step, words.toLowerCase());
    if (search.value === words) found.textContent = `in ${hits} of ${steps.length} steps; Enter shows only them`;
  };
  addEventListener("message", ({ source, data }) => {
    if (!framed || source !== parent || typeof data !== "object" || data === null) return;
    if (data.lab === "go" && Number.isInteger(data.step)) go(data.step);
    else if (data.lab === "move" && Number.isInteger(data.by)) for (let n = Math.min(Math.abs(data.by), steps.length); n > 0; n--) move(Math.sign(data.by));
    else if (data.lab === "hint" && typeof data.words === "string" && search) hint(data.words);
  });
  const seen = new IntersectionObserver((entries) => {
    const entry = entries.find((one) => one.isIntersecting);
    if (entry && scrollY !== jumped) mark(steps.indexOf(entry.target));
  }, { rootMargin: "-4% 0px -90% 0px" });
  for (const step of steps) seen.observe(step);
  follow();
  const top = framed && at < 0 && steps.length ? steps[0].getBoundingClientRect().top : Infinity;
  if (top < 0.1 * innerHeight) mark(0); // as the observer will say: a key may come before it does
  performance.mark("usable");
})();
