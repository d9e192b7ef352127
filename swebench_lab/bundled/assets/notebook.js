// The door of a notebook: answers come from the kernel, and where we are is kept by the page alone.
let asks = 0;

function render({ model, el }) {
  const host = document.createElement("div");
  host.dataset.lmSuppressShortcuts = "true"; // or JupyterLab takes the keys
  el.append(host);
  const shadow = host.attachShadow({ mode: "open" });
  shadow.append(Object.assign(document.createElement("style"), { textContent: model.get("sheet") }));
  const root = shadow.appendChild(Object.assign(document.createElement("div"), { className: "lab-view" }));
  const theme = () => { const light = document.body.dataset.jpThemeLight; host.dataset.theme = light === "false" ? "dark" : light === "true" ? "light" : matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"; };
  theme();
  const themes = new MutationObserver(theme);
  themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  const waiting = new Map();
  // Said again until it is heard: while a cell runs, what is sent before the page has a channel of its own waits for its end.
  let answered = () => {}, greetings = 0;
  const ready = new Promise((done) => { answered = done; });
  const hello = () => model.send({ what: "about", params: {}, number: `hello-${++greetings}` });
  const greet = setInterval(hello, 600);
  // A saved notebook has no kernel: what was there when it was saved is shown until somebody answers.
  const saved = Object.assign(document.createElement("div"), { className: "lab-saved" });
  const alone = setTimeout(() => { saved.innerHTML = model.get("saved") ?? ""; root.before(saved); root.style.display = "none"; }, 4000);
  const heard = (told) => {
    clearInterval(greet);
    clearTimeout(alone);
    saved.remove();
    root.style.display = "";
    answered();
    const asker = waiting.get(told.number);
    if (!asker) return;
    waiting.delete(told.number);
    if (told.status >= 400) asker.reject(Object.assign(new Error(JSON.parse(told.text).error), { status: told.status }));
    else asker.resolve(told.kind === "application/json" ? JSON.parse(told.text) : told.text);
  };
  model.on("msg:custom", heard);
  hello();
  const send = (message) => new Promise((resolve, reject) => {
    const number = `${Date.now()}-${++asks}`;
    waiting.set(number, { resolve, reject });
    ready.then(() => model.send({ ...message, number }));
    setTimeout(() => { if (waiting.delete(number)) reject(new Error("the kernel does not answer: is it busy, or was it restarted?")); }, 60000);
  });
  let place = model.get("place") || "#runs", moved = () => {};
  const trail = [];
  const door = {
    live: true,
    pairs: true,
    guest: true, // on a page of others: the focus stays where it is until somebody comes here
    ask: (what, params) => send({ what, params }),
    post: (what, params) => send({ what, params, post: true }),
    file: (name) => send({ what: "file", params: { name } }),
    module: async (name) => {
      const address = URL.createObjectURL(new Blob([await door.file(name)], { type: "text/javascript" }));
      return import(address).finally(() => URL.revokeObjectURL(address));
    },
    frame: (frame, what, params) => send({ what, params }).then((html) => { frame.srcdoc = html; }, (error) => { frame.replaceWith(error.message); }),
    place: () => { const [view, params] = place.slice(1).split("?"); return { view: view || "runs", params: Object.fromEntries(new URLSearchParams(params ?? "")) }; },
    move: (to, quietly) => { if (!quietly) trail.push(place); place = to; model.set("place", to); model.save_changes(); },
    moved: (call) => { moved = call; },
  };
  const view = new View(root, door);
  view.start().then(() => { root.dataset.ready = "1"; }, (error) => { root.textContent = error.message; });
  return () => { clearInterval(greet); clearTimeout(alone); view.stop(); themes.disconnect(); model.off("msg:custom", heard); host.remove(); };
}

export default { render };
