// The full view of the player. It draws what the model sends and says what was asked for; every text goes in as text, never as HTML.
const make = (name, attributes = {}, ...inside) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...inside.filter((part) => part !== null && part !== undefined && part !== ""));
  return element;
};
const KEYS = [
  ["→ or l", "next step"], ["← or h", "previous step"], ["0 and $", "first and last step"], ["s", "the start, before the first step"],
  ["j and k", "scroll the step down and up"], ["/", "search"], ["1 … 6", "changes, all changes, files, tests, patches, branches"],
  [":", "command line of the sandbox"], ["t", "terminal; Ctrl+] leaves it"], ["b", "branch from this step"], ["g", "grade"],
  ["x", "throw away what you changed in this sandbox"], ["y", "copy a link to this step"], ["i", "facts of the attempt"], ["?", "this list"], ["Esc", "back to the player"],
];
const PANELS = [["changes", "Changes"], ["since", "Since start"], ["files", "Files"], ["tests", "Tests"], ["patch", "Patch"], ["branches", "Branches"]];
const KINDS = ["read", "run", "edit", "submit", "malformed"];
const PIECE = 4000; // characters
let terminalLibrary = null; // one for all players of the page, loaded when the first terminal is opened

function render({ model, el }) {
  const own = `lab-${Math.random().toString(36).slice(2, 9)}`;
  const send = (what, more = {}) => model.send({ do: what, ...more });
  const parts = {};
  const part = (name, element) => (parts[name] = element);
  let term = null, waiting = null, answered = false, closed = false;

  // --- the frame ---------------------------------------------------------------------------------------------------
  const root = make("div", { class: "lab-player", tabindex: "0", role: "group", "aria-label": "Player of an attempt. Press ? for its keys.", "data-lm-suppress-shortcuts": "true" });
  const button = (words, action, title) => make("button", { type: "button", title, onclick: action }, words);
  const move = (by) => send("move", { by });
  const count = () => model.get("overview").rows.length;
  const at = () => model.get("detail").step;
  root.append(
    make("div", { class: "top" },
      part("name", make("span", { class: "name" })), part("badge", make("span", { class: "badge" })),
      make("span", {}, button("◀", () => move(-1), "previous step (h)"), " ", part("where", make("span")), " ", button("▶", () => move(1), "next step (l)")),
      button("facts", () => toggleFacts(), "facts of the attempt (i)"), button("?", () => help(), "keys (?)"),
      part("state", make("span", { class: "state" }))),
    part("facts", make("dl", { class: "facts", hidden: true })),
    part("bar", make("div", { class: "bar", "aria-hidden": "true" })),
    part("said", make("div", { class: "said-live", role: "status", "aria-live": "polite", hidden: true })),
    make("div", { class: "columns" },
      make("nav", { class: "rail", "aria-label": "Steps" },
        part("search", make("input", { type: "search", placeholder: "search the steps ( / )", "aria-label": "search the steps", oninput: () => filterSoon() })),
        part("kinds", make("fieldset", { class: "kinds" }, make("legend", { class: "unseen" }, "Show steps that"))),
        part("list", make("ol", { class: "list", role: "listbox", "aria-label": "steps", tabindex: "0" }))),
      part("main", make("section", { class: "main", tabindex: "0", "aria-label": "step" })),
      make("section", { class: "side", "aria-label": "beside the step" },
        part("tabs", make("div", { class: "tabs", role: "tablist" })), part("panel", make("div", { role: "tabpanel", tabindex: "0" })))),
    make("div", { class: "bottom" },
      part("typed", make("div", { class: "typed", role: "log", "aria-label": "what you ran", tabindex: "0", hidden: true })),
      part("terminalHead", make("div", { class: "line", hidden: true }, part("terminalWords", make("strong")), make("span", { class: "aside" }, "Ctrl+] leaves it"), button("close terminal", () => { closeTerminal(); root.focus(); }))),
      part("terminal", make("div", { class: "terminal", hidden: true })),
      part("branch", branchForm()),
      make("form", { onsubmit: (event) => { event.preventDefault(); run(); } },
        make("span", { "aria-hidden": "true" }, "$"),
        part("command", make("input", { type: "text", spellcheck: "false", autocomplete: "off", "aria-label": "run a command in the sandbox of this step", placeholder: "run a command in the sandbox of this step ( : )" })),
        button("run", () => run()), part("openTerminal", button("terminal", () => openTerminal(), "a terminal in the sandbox (t)")),
        button("branch", () => openBranch(), "go on from this step (b)"), button("grade", () => grade(), "grade in a fresh sandbox (g)"),
        button("reset", () => reset(), "throw away your changes (x)"), part("replay", button("replay", () => work("replay", {}, "replaying …"), "execute the recorded calls again"))),
      make("div", { class: "keys" }, make("kbd", {}, "h"), " ", make("kbd", {}, "l"), " step · ", make("kbd", {}, ":"), " command · ", make("kbd", {}, "t"), " terminal · ", make("kbd", {}, "b"), " branch · ", make("kbd", {}, "?"), " all keys")),
    part("help", make("dialog", { "aria-label": "Keys" }, make("table", {}, ...KEYS.map(([key, what]) => make("tr", {}, make("td", {}, make("kbd", {}, key)), make("td", {}, what)))),
      button("close", () => parts.help.close()))),
    part("live", make("div", { class: "unseen", role: "status", "aria-live": "polite" })));
  for (const kind of KINDS)
    parts.kinds.append(make("label", { class: `k-${kind}`, "data-kind": kind, hidden: true }, make("input", { type: "checkbox", checked: true, value: kind, onchange: () => filter() }), kind));
  for (const [name, words] of PANELS)
    parts.tabs.append(make("button", { type: "button", role: "tab", "data-name": name, id: `${own}-${name}`, "aria-selected": "false", onclick: () => send("panel", { name }) }, words));
  el.append(root);

  function branchForm() {
    const form = make("form", { class: "branch", hidden: true, onsubmit: (event) => { event.preventDefault(); branch(); } },
      make("strong", {}, "branch"), make("label", {}, "who goes on ", part("policy", make("select"))),
      part("hint", make("input", { type: "text", class: "hint", placeholder: "a hint, if you like", "aria-label": "hint" })),
      make("label", {}, "times ", part("times", make("input", { type: "number", min: "1", max: "16", value: "1" }))),
      make("label", {}, part("graded", make("input", { type: "checkbox", checked: true })), " grade"), make("button", { type: "submit" }, "go"),
      button("close", () => { form.hidden = true; root.focus(); }));
    return form;
  }

  // --- drawing -----------------------------------------------------------------------------------------------------
  const words = (pieces) => pieces.map((piece) => (typeof piece === "string" ? piece : Object.entries(piece).map(([kind, text]) => make("i", { class: kind }, text))[0]));
  const lines = (drawn) => make("pre", { class: "diff", tabindex: "0" }, ...drawn.lines.map(([style, text]) => make("span", { class: `l-${style}` }, ...(typeof text === "string" ? [text] : words(text)))), drawn.left ? `… ${drawn.left} more lines` : "");
  const text = (drawn, of, style = "") => {
    const pre = make("pre", { class: style }, ...pieces(drawn.text));
    if (!drawn.more) return [pre];
    const more = button(`show more: ${drawn.more.toLocaleString()} characters left`, () => send("more", { of, start: Number(more.dataset.end) }));
    more.dataset.end = drawn.end; more.dataset.of = of;
    return [pre, more];
  };
  // A long text in blocks of whole lines, of which only those in sight are laid out.
  const pieces = (words) => {
    if (words.length < 2 * PIECE) return [words];
    const made = [];
    for (let start = 0, stop; start < words.length; start = stop) {
      stop = words.indexOf("\n", start + PIECE) + 1 || words.length;
      const piece = make("span", { class: "piece" }, words.slice(start, stop));
      piece.style.containIntrinsicHeight = `auto ${1.45 * piece.textContent.split("\n").length}em`;
      made.push(piece);
    }
    return made;
  };
  const label = (words) => (words ? make("span", { class: "label" }, words) : "");
  const facts = (drawn) => parts.facts.replaceChildren(...drawn.map(([name, value]) => make("div", { class: value.length > 60 ? "wide" : "" }, make("dt", {}, name), make("dd", {}, value))));

  function drawOverview() {
    const o = model.get("overview");
    parts.name.textContent = o.title;
    parts.badge.textContent = `${o.sign} ${o.verdict}`;
    parts.badge.className = `badge ${o.verdict.replace(" ", "-")}`;
    parts.badge.title = o.reason;
    facts([...o.facts, ...(o.reason ? [["why", o.reason]] : []), ...(o.error ? [["error", o.error]] : [])]);
    parts.bar.replaceChildren(...o.rows.map(([n, kind, , , , share]) => {
      const piece = make("i", { class: `k-${kind}`, "data-step": n });
      piece.style.flexGrow = Math.max(share, 0.2); return piece;
    }));
    parts.list.replaceChildren(...o.rows.map(([n, kind, what, took, failed]) =>
      make("li", { role: "option", id: `${own}-step-${n}`, "data-step": n, class: failed ? "failed" : "", "aria-selected": "false" },
        make("span", { class: "n" }, n), make("span", { class: `dot k-${kind}`, role: "img", "aria-label": kind }), make("span", { class: "what" }, what), make("span", { class: "t" }, took))));
    const there = new Set(o.rows.map((row) => row[1]));
    for (const one of parts.kinds.querySelectorAll("label")) one.hidden = !there.has(one.dataset.kind);
    drawVisible(); markStep();
  }
  function drawVisible() {
    const shown = new Set(model.get("visible"));
    for (const row of parts.list.children) row.hidden = !shown.has(Number(row.dataset.step));
  }
  function markStep() {
    const step = at();
    for (const old of root.querySelectorAll(".list [aria-selected=true]")) old.setAttribute("aria-selected", "false");
    root.querySelector(".bar .at")?.classList.remove("at");
    parts.bar.children[step]?.classList.add("at");
    const row = parts.list.children[step];
    if (row) {
      row.setAttribute("aria-selected", "true"); parts.list.setAttribute("aria-activedescendant", row.id);
      const list = parts.list; // not scrollIntoView: that would move the notebook, too
      if (row.offsetTop < list.scrollTop + list.offsetTop || row.offsetTop > list.scrollTop + list.offsetTop + list.clientHeight - 24) list.scrollTop = row.offsetTop - list.offsetTop - list.clientHeight / 2;
    }
    parts.where.textContent = step < 0 ? `start, of ${count()} steps` : `step ${step} of ${count()}`;
  }
  function drawDetail() {
    const d = model.get("detail");
    parts.main.replaceChildren(
      make("div", { class: "line" }, make("h3", {}, d.title), make("span", { class: `chip k-${d.kind}` }, d.kind), ...d.endings.map(([style, words]) => make("span", { class: `chip ${style}` }, words)),
        d.drift ? make("span", { class: "chip bad" }, "differed in the replay") : "", make("span", { class: "aside" }, d.aside)),
      label(d.said.label), ...(d.said.text ? text(d.said, "said", d.said.label === "" ? "prose" : "") : []),
      label(d.call.label), ...(d.call.lines ? [lines(d.call)] : d.call.text ? text(d.call, "call", d.call.form === "prompt" ? "prompt" : "") : []),
      ...(d.seen.text ? [label("observation"), ...text(d.seen, "seen")] : []));
    parts.main.scrollTop = 0;
    parts.live.textContent = [d.title, d.kind, ...d.endings.map((one) => one[1])].join(", ");
    root.dataset.step = d.step;
    markStep();
  }
  const marks = (files) => {
    const caches = files.filter((file) => file[3]);
    return make("div", {}, list(files.filter((file) => !file[3])), caches.length ? make("details", {}, make("summary", {}, `${caches.length} in caches or outside the repository`), list(caches)) : "");
  };
  const list = (files) => make("ul", { class: "marks" }, ...files.map(([mark, path, size, noise]) =>
    make("li", { class: noise ? "noise" : "" }, make("b", {}, mark), path.startsWith("/") ? path : button(path, () => send("file", { path }), size === undefined ? "" : `${size} bytes`))));
  const drawn = {
    changes: (p) => [p.files.length ? marks(p.files) : make("p", {}, "This step changed no file."), p.lines.length ? lines(p) : ""],
    since: (p) => [p.files.length ? marks(p.files) : make("p", {}, "No file differs from the start."), p.lines.length ? lines(p) : ""],
    files: (p) => [marks(p.tree.map(([mark, path]) => [mark, path])), p.left ? `… ${p.left} more` : ""],
    tests: (p) => [...p.notes.map((note) => make("p", {}, note)), ...p.groups.flatMap((group) => [make("h4", {}, group.title),
      make("table", {}, ...group.rows.map(([test, outcome, style]) => make("tr", {}, make("td", { class: "id" }, test), make("td", { class: style }, outcome))))]),
      p.log.text ? make("details", {}, make("summary", {}, "test log"), ...text(p.log, "log")) : ""],
    patch: (p) => [make("h4", {}, "This attempt"), p.ours.lines.length ? lines(p.ours) : make("p", {}, "Empty: no file was changed."), make("h4", {}, "Gold"), p.gold.lines.length ? lines(p.gold) : make("p", {}, "There is none.")],
    branches: (p) => [make("table", { class: "tree" }, ...p.tree_of_branches.map(([node, depth, where, policy, length, verdict, told]) => {
      const row = make("tr", {}, make("td", {}, button(`${"└ ".repeat(Math.min(depth, 8))}${node || "attempt"}`, () => send("select", { node }))), make("td", {}, `${where} · ${policy} · ${length}`, told ? make("div", { class: "told" }, told) : ""), make("td", { class: verdict.slice(2).replace(" ", "-") }, verdict));
      if (node === model.get("overview").node) row.setAttribute("aria-current", "true");
      return row;
    }))],
  };
  function drawPanel() {
    const p = model.get("panel");
    for (const tab of parts.tabs.children) tab.setAttribute("aria-selected", String(tab.dataset.name === p.name));
    parts.panel.setAttribute("aria-labelledby", `${own}-${p.name}`);
    const missing = p.missing && ["changes", "since", "files"].includes(p.name) ? make("p", {}, p.missing) : "";
    parts.panel.replaceChildren(missing, ...drawn[p.name](p));
  }
  function drawLive() {
    const l = model.get("live");
    parts.state.textContent = l.words; parts.state.className = `state ${l.state}`;
    root.dataset.live = l.state === "live" ? l.step : "";
    parts.replay.hidden = !(l.state === "dead" && l.words.includes("replay"));
  }
  function drawTyped() {
    const all = model.get("typed");
    parts.typed.hidden = all.length === 0 || term !== null;
    parts.typed.replaceChildren(...all.flatMap(([step, command, output, ending]) => [label(`step ${step} · ${ending}`), make("pre", {}, make("b", {}, `$ ${command}\n`), output)]));
    parts.typed.scrollTop = parts.typed.scrollHeight;
    root.dataset.typed = all.length;
  }
  const say = (words, bad = false) => { parts.said.hidden = !words; parts.said.textContent = words; parts.said.classList.toggle("bad", bad); };

  // --- doing -------------------------------------------------------------------------------------------------------
  const work = (what, more, words) => { say(words); send(what, more); };
  const toggleFacts = () => { parts.facts.hidden = !parts.facts.hidden; };
  const help = () => (parts.help.open ? parts.help.close() : parts.help.showModal());
  const grade = () => work("grade", {}, "grading in a fresh sandbox …");
  const reset = () => work("reset", {}, "the sandbox is as the step left it");
  const run = () => { const command = parts.command.value.trim(); if (command) { parts.command.value = ""; say(""); send("run", { command }); } };
  const filter = () => {
    const boxes = [...parts.kinds.querySelectorAll("label:not([hidden]) input")];
    const chosen = boxes.filter((box) => box.checked).map((box) => box.value);
    send("filter", { kinds: chosen.length === boxes.length ? null : chosen, words: parts.search.value });
  };
  const filterSoon = () => { clearTimeout(waiting); waiting = setTimeout(filter, 200); };
  const openBranch = () => {
    const names = model.get("policies");
    parts.policy.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
    if (!names.length) say("nobody is there to go on: lab.Stepper(rollout, sandboxes, policies={\"teacher\": lab.Teacher(tasks)})", true);
    else { parts.branch.hidden = false; parts.hint.focus(); }
  };
  const branch = () => {
    work("branch", { policy: parts.policy.value, hint: parts.hint.value, n: Number(parts.times.value), grade: parts.graded.checked }, "going on from this step …");
    parts.branch.hidden = true; root.focus(); send("panel", { name: "branches" });
  };
  const link = async () => {
    const words = model.link?.() ?? `step=${at()}`, how = model.link ? "" : ` — lab.Stepper(rollout, sandboxes, ${words}); stepper.link names it for another kernel`;
    try { await navigator.clipboard.writeText(words); say(`copied: ${words}${how}`); } catch { say(words); }
  };
  function edit(message) {
    const area = make("textarea", { "aria-label": message.path, spellcheck: "false" }); area.value = message.text;
    const note = message.more ? "only its beginning is shown, so it cannot be saved" : "";
    parts.panel.replaceChildren(make("div", { class: "editor" }, make("div", { class: "line" }, make("h4", {}, message.path),
      note || button("save into the sandbox", () => send("save", { path: message.path, text: area.value })), button("back", () => { drawPanel(); root.focus(); })), area));
    area.focus();
  }

  // --- the terminal ------------------------------------------------------------------------------------------------
  const size = () => {
    const screen = term?.element?.querySelector(".xterm-screen")?.getBoundingClientRect();
    const box = parts.terminal.getBoundingClientRect();
    if (!screen || !screen.width) return { rows: 14, columns: 90 };
    return { rows: Math.max(4, Math.floor((box.height - 10) / (screen.height / term.rows))), columns: Math.max(20, Math.floor((box.width - 24) / (screen.width / term.cols))) };
  };
  const openTerminal = () => {
    if (term) { term.focus(); return; }
    say("opening a terminal …");
    if (model.library) terminalLibrary ??= model.library();
    send("terminal", { rows: 14, columns: 90, script: terminalLibrary === null });
  };
  const dropTerminal = () => {
    term.dispose(); term = null; parts.terminal.hidden = parts.terminalHead.hidden = true; root.dataset.terminal = ""; drawTyped();
  };
  const closeTerminal = () => { if (term) { dropTerminal(); send("leave"); } };
  async function load(message, buffer) {
    const address = URL.createObjectURL(new Blob([buffer], { type: "text/javascript" }));
    terminalLibrary = import(address).finally(() => URL.revokeObjectURL(address));
    if (!document.getElementById("lab-xterm-style")) document.head.append(Object.assign(make("style", { id: "lab-xterm-style" }), { textContent: message.css }));
    await terminalLibrary;
  }
  async function startTerminal(words) {
    const { Terminal } = await terminalLibrary;
    if (closed) return;
    if (term) term.dispose();
    parts.terminal.hidden = parts.terminalHead.hidden = false; parts.typed.hidden = true; parts.terminal.replaceChildren();
    parts.terminalWords.textContent = `terminal, ${words}`;
    // No link is followed, and what a program asks of the window is not granted.
    term = new Terminal({ rows: 14, cols: 90, fontSize: 12, scrollback: 5000, screenReaderMode: true, linkHandler: { activate: () => {} }, windowOptions: {}, theme: { background: "#111111" } });
    term.open(parts.terminal);
    term.attachCustomKeyEventHandler((event) => {
      if (event.ctrlKey && event.key === "]") { if (event.type === "keydown") { event.preventDefault(); setTimeout(() => root.focus()); } return false; }
      return true;
    });
    term.onData((data) => send("key", { data }));
    for (const bytes of pending.splice(0)) write(bytes);
    const fitted = size(); term.resize(fitted.columns, fitted.rows); send("resize", fitted);
    term.focus(); say(""); root.dataset.terminal = "open";
  }
  const pending = [];
  const write = (bytes) => (term ? term.write(bytes, () => send("drawn", { count: bytes.byteLength })) : pending.push(bytes));
  const closed_note = () => { say("the shell of the terminal ended"); closeTerminal(); root.focus(); };

  const heard = {
    hello: () => { answered = true; if (parts.said.dataset.silent) { delete parts.said.dataset.silent; say(""); } },
    error: (m) => say(m.text, true), said: (m) => say(m.text), file: edit,
    more: (m) => {
      const more = root.querySelector(`button[data-of="${m.of}"]`);
      if (!more || (m.of !== "log" && m.step !== at()) || Number(more.dataset.end) >= m.end) return;
      more.before(make("pre", {}, ...pieces(m.text))); more.dataset.end = m.end;
      if (m.more) more.textContent = `show more: ${m.more.toLocaleString()} characters left`; else more.remove();
    },
    script: (m, buffers) => load(m, buffers[0]).catch((error) => say(`the terminal's script could not be loaded: ${error.message}`, true)),
    terminal: (m) => startTerminal(m.words).catch((error) => say(`the terminal could not be opened: ${error.message}`, true)),
    out: (m, buffers) => { const view = buffers[0]; write(new Uint8Array(view.buffer, view.byteOffset, view.byteLength)); },
    gone: closed_note,
  };
  const onMessage = (message, buffers) => heard[message.type]?.(message, buffers);

  // --- keys and clicks ---------------------------------------------------------------------------------------------
  const keys = {
    l: () => move(1), ArrowRight: () => move(1), h: () => move(-1), ArrowLeft: () => move(-1),
    0: () => end(0), $: () => end(-1), s: () => send("goto", { step: -1 }),
    j: () => parts.main.scrollBy(0, 90), k: () => parts.main.scrollBy(0, -90), "/": () => parts.search.focus(), ":": () => parts.command.focus(),
    t: openTerminal, b: openBranch, g: grade, x: reset, y: link, i: toggleFacts, "?": help,
  };
  PANELS.forEach(([name], number) => { keys[number + 1] = () => send("panel", { name }); });
  const end = (which) => { const shown = model.get("visible"); if (shown.length) send("goto", { step: shown.at(which) }); };
  root.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.target.closest(".terminal") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && !parts.help.open) { if (event.target === root) root.dispatchEvent(new Event("lab-leave", { bubbles: true })); root.focus(); return; }
    if (event.target.closest("input, textarea, select, dialog")) return;
    if (event.target.closest("button") && (event.key === "Enter" || event.key === " ")) return;
    if (parts.list.contains(event.target) && ["ArrowDown", "ArrowUp"].includes(event.key)) { event.preventDefault(); move(event.key === "ArrowDown" ? 1 : -1); return; }
    const action = Object.hasOwn(keys, event.key) && keys[event.key];
    if (!action) return;
    event.preventDefault(); action();
  });
  for (const name of ["keyup", "keypress"]) root.addEventListener(name, (event) => event.stopPropagation());
  root.addEventListener("click", (event) => { const step = event.target.closest("[data-step]"); if (step && step !== root) send("goto", { step: Number(step.dataset.step) }); });

  const watch = { overview: drawOverview, visible: drawVisible, detail: drawDetail, panel: drawPanel, live: drawLive, typed: drawTyped };
  for (const [name, draw] of Object.entries(watch)) { model.on(`change:${name}`, draw); draw(); }
  model.on("msg:custom", onMessage);
  const sizes = new ResizeObserver(() => { if (term && !parts.terminal.hidden) { const fitted = size(); if (fitted.rows !== term.rows || fitted.columns !== term.cols) { term.resize(fitted.columns, fitted.rows); send("resize", fitted); } } });
  sizes.observe(parts.terminal);
  root.dataset.ready = "1";
  // Said again until it is heard: while a cell runs, what is sent before the page has a channel of its own waits for its end.
  let greetings = 0;
  const greet = setInterval(() => { if (answered || ++greetings > 15) clearInterval(greet); else send("ready"); }, 600);
  send("ready");
  const silent = setTimeout(() => { if (!answered) { parts.said.dataset.silent = "1"; say("The kernel does not answer, so this shows what was saved. Start it, and run the cell again to step on."); } }, 8000);
  return () => {
    closed = true; clearTimeout(silent); clearInterval(greet); sizes.disconnect();
    for (const [name, draw] of Object.entries(watch)) model.off(`change:${name}`, draw);
    model.off("msg:custom", onMessage);
    closeTerminal();
  };
}
export default { render };
