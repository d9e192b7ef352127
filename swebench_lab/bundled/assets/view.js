// The viewer: runs, attempts and steps. A door (browser.js, static.js, or a notebook's widget) brings the answers.
// Everything is put on the page as text; the page of an attempt stands in a frame of its own that reaches nothing.

const SHOWN = ["run", "task", "policy", "attempt", "verdict", "reward", "advantage", "stop", "steps", "completion_tokens", "cost", "seconds", "tags"];
const WORDS = { completion_tokens: "tokens", prompt_tokens: "prompt tokens", cached_tokens: "cached tokens", not_graded: "not graded", started_at: "started" };
const SIGNS = { resolved: "✓", unresolved: "✗", "not graded": "?" };
const MAJOR = new Set(["task", "verdict", "steps", "attempts", "resolved", "change"]);
const MAJOR_IN = { runs: new Set(["run", "attempts", "resolved", "rate"]), tasks: new Set(["task", "policy", "outcomes", "resolved"]), "compared tasks": { has: () => true } }; // what a narrow window shows
const minor = (table, name) => ((MAJOR_IN[table] ?? MAJOR).has(name) || name === "rate" ? "" : " minor");
const KEYS = [
  ["↓ ↑ or j k", "next and previous row"], ["Enter", "open the row"], ["/", "search"], ["f", "filters of columns"],
  ["[ and ]", "previous and next page"], ["↓ ↑ in an attempt", "next and previous attempt"],
  ["← → in an attempt", "previous and next step"], ["r in an attempt", "enter the step in a live sandbox"], ["Esc", "back to the table"], ["?", "this list"],
];
const PAGE = 100;

const h = (tag, props = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else if (name in node && name !== "list" && typeof value !== "string") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
};

const number = (value) => Number(value).toLocaleString("en", { maximumFractionDigits: 3 });
const duration = (s) => {
  if (s < 60) return `${s.toFixed(s < 9.95 ? 2 : 0)} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  return s < 172800 ? `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min` : `${Math.floor(s / 86400)} days`;
};
const shown = (name, value) => {
  if (value === null || value === undefined || value === "") return "";
  if (name === "cost") return `$${value.toFixed(4)}`;
  if (name === "started_at") return value ? new Date(value * 1000).toISOString().slice(0, 19).replace("T", " ") : "";
  if (name.endsWith("seconds")) return duration(value);
  if (typeof value === "number") return number(value);
  return value;
};
const cut = (text, most = 44) => (text.length <= most ? text : `${text.slice(0, Math.ceil(most / 2) - 1)}…${text.slice(-Math.floor(most / 2))}`);
const badge = (verdict) => h("span", { class: `badge ${verdict.replace(" ", "-")}` }, `${SIGNS[verdict] ?? ""} ${verdict}`);
const share = (row) => { const graded = (row.resolved ?? 0) + (row.unresolved ?? 0); return graded ? `${((100 * row.resolved) / graded).toFixed(1)} %` : ""; };
const query = (params) => new URLSearchParams(Object.entries(params).filter(([, value]) => value !== "" && value !== undefined && value !== null)).toString();
const typing = (node) => node instanceof HTMLInputElement || node instanceof HTMLTextAreaElement || node instanceof HTMLSelectElement;

const OURS = `.lab-player { ${["paper", "sheet", "edge", "ink", "soft", "link", "good", "bad", "odd", "add", "add-paper", "del", "del-paper", "hunk", "read", "run", "edit", "submit", "malformed", "mono", "word", "text", "figure", "name"].map((name) => `--${name}: inherit;`).join(" ")} flex: 1 1 0; height: auto; min-height: 0; border-width: 1px 0 0; border-radius: 0; resize: none; }
.lab-player .list li[aria-selected=true] { background: var(--mark); color: var(--ink); }`;

// Stands for the model that the player has in a notebook; a door carries its messages.
class Remote {
  constructor(door, { player, after, state }, lost) {
    Object.assign(this, { door, player, after, state, lost, calls: {}, queue: [] });
    this.listen();
  }

  get(name) { return this.state[name]; }

  on(name, call) { (this.calls[name] ??= new Set()).add(call); }

  off(name, call) { this.calls[name]?.delete(call); }

  tell(name, ...values) { for (const call of this.calls[name] ?? []) call(...values); }

  link() { return this.door.link?.() ?? `step=${this.state.detail.step}`; }

  library() { return this.door.module("xterm.mjs"); }

  async send(message) {
    this.queue.push(message);
    if (this.sending) return; // one request at a time: keys arrive in their order
    this.sending = true;
    try { while (this.queue.length) await this.door.post("tell", { player: this.player, messages: this.queue.splice(0) }); } catch (error) { if (!this.stopped) this.lost(error); }
    this.sending = false;
  }

  async listen() {
    while (!this.stopped) {
      try {
        const told = await this.door.ask("news", { player: this.player, after: this.after });
        this.lost(null);
        this.after = told.after;
        const drawn = Object.entries(told.state ?? {}).map(([put, value]) => ({ put, value }));
        for (const piece of told.news ?? drawn) {
          if (this.stopped) return;
          if (piece.put) { this.state[piece.put] = piece.value; this.tell(`change:${piece.put}`); } else this.tell("msg:custom", piece.message, piece.data.map((text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))));
        }
      } catch (error) {
        if (this.stopped) return;
        this.lost(error);
        if (error.status) return; // it was closed
        await new Promise((done) => setTimeout(done, 2000));
      }
    }
  }

  stop() { this.stopped = true; }
}

export class View {
  constructor(root, door) {
    this.root = root;
    this.door = door;
    this.drawing = 0;
    this.frames = new Set();
    this.timer = 0;
    this.seen = "";
    this.top = h("header", { class: "bar-top" });
    this.main = h("main", { class: "view-main", tabindex: "-1" });
    this.status = h("div", { class: "unseen", role: "status", "aria-live": "polite" });
    this.help = h("dialog", { "aria-label": "Keys" }, h("h2", {}, "Keys"),
      h("table", {}, h("tbody", {}, KEYS.map(([key, what]) => h("tr", {}, h("td", {}, h("kbd", {}, key)), h("td", {}, what))))),
      h("form", { method: "dialog" }, h("button", { onclick: (event) => { event.preventDefault(); this.help.close(); } }, "Close")));
    root.classList.add("lab-view");
    root.append(this.top, this.main, this.status, this.help);
    root.addEventListener("keydown", (event) => this.key(event));
    addEventListener("message", this.heard = (event) => this.message(event));
  }

  async start() {
    this.about = await this.door.ask("about", {});
    this.numeric = new Set(this.about.numeric);
    this.door.moved(() => this.draw());
    await this.draw();
    this.watch();
  }

  stop() { clearTimeout(this.timer); this.ending?.(); removeEventListener("message", this.heard); this.stopped = true; }

  // --- where we are ------------------------------------------------------------------------------------------------

  get at() { return this.door.place(); }

  link(view, params) { return `#${view}?${query(params)}`; }

  anchor(view, params, ...content) {
    const to = this.link(view, params);
    return h("a", { href: to, onclick: (event) => { if (event.ctrlKey || event.metaKey || event.shiftKey) return; event.preventDefault(); this.go(view, params); } }, ...content);
  }

  go(view, params, quietly = false) {
    this.door.move(this.link(view, params), quietly);
    if (!quietly) this.draw();
  }

  async draw() {
    const mine = ++this.drawing;
    const { view, params } = this.at;
    const screens = { runs: this.runs, attempts: this.attempts, groups: this.groups, attempt: this.attempt, running: this.running, enter: this.enter, compare: this.compare, pair: this.pair };
    this.follow = this.begin = null;
    this.neighbours = {};
    const slow = setTimeout(() => this.main.setAttribute("aria-busy", "true"), 300);
    try {
      const content = await (screens[view] ?? this.runs).call(this, params, mine);
      if (mine !== this.drawing || !content) return;
      this.bar(view, params);
      const kept = this.focused(view);
      this.frames.clear();
      this.ending?.();
      this.ending = null;
      this.main.replaceChildren(...[content].flat());
      for (const frame of this.main.querySelectorAll("iframe")) this.frames.add(frame);
      this.focus(kept, view);
      this.begin?.();
    } catch (error) {
      if (mine !== this.drawing) return;
      this.bar(view, params);
      this.main.replaceChildren(h("p", { class: "error", role: "alert" }, error.message));
    } finally {
      clearTimeout(slow);
      if (mine === this.drawing) this.main.removeAttribute("aria-busy");
    }
  }

  bar(view, params) {
    const here = (name) => (name === view ? { "aria-current": "page" } : {});
    const item = (name, target, words) => { const link = this.anchor(name, target, words); if (here(name)["aria-current"]) link.setAttribute("aria-current", "page"); return link; };
    const run = params.run ?? params["f.run"]?.replace(/^=/, "");
    this.top.replaceChildren(
      h("a", { class: "skip", href: "#", onclick: (event) => { event.preventDefault(); this.main.focus(); } }, "Skip to the content"),
      h("strong", { title: this.about.root }, "swebench_lab"),
      h("nav", { "aria-label": "Views" }, item("runs", {}, "runs"), item("attempts", run ? { "f.run": `=${run}` } : {}, "attempts"), item("groups", run ? { "f.run": `=${run}` } : {}, "tasks"), item("compare", {}, "compare")),
      h("span", { class: "state" }, this.unread ? `${number(this.unread)} attempts are still being read: search does not find them yet` : ""),
      h("button", { onclick: () => this.help.showModal(), title: "keys" }, "?"));
  }

  // What is lost when the page is drawn anew: the focus, what was typed, the selected row.
  focused(view) {
    const active = this.root.getRootNode().activeElement;
    const row = view === this.last ? this.main.querySelector("tr[aria-selected=true]")?.dataset.open : undefined;
    return { name: active?.dataset?.name, typed: active?.matches("input:not([type=checkbox])") ? active.value : null, from: active?.selectionStart, to: active?.selectionEnd, ours: this.main.contains(active), row };
  }

  focus(kept, view) {
    const node = kept.name && this.main.querySelector(`[data-name="${CSS.escape(kept.name)}"]`);
    const row = kept.row && this.main.querySelector(`tr[data-open="${CSS.escape(kept.row)}"]`);
    if (row) this.mark(row);
    if (node) {
      if (kept.typed !== null && view === this.last) node.value = kept.typed; // keys that came while the answer was awaited
      node.focus({ preventScroll: true });
      if (node.setSelectionRange && kept.from !== null && kept.from !== undefined && node.type !== "checkbox") try { node.setSelectionRange(kept.from, kept.to); } catch { /* has no selection */ }
    } else if (kept.ours || (view !== this.last && (this.last || !this.door.guest))) { // or keys go nowhere
      (this.main.querySelector("tr[aria-selected=true] a") ?? this.main).focus({ preventScroll: true });
    }
    this.last = view;
  }

  mark(row) {
    this.main.querySelector("tr[aria-selected=true]")?.setAttribute("aria-selected", "false");
    row.setAttribute("aria-selected", "true");
  }

  // --- runs --------------------------------------------------------------------------------------------------------

  async runs() {
    const { runs, refused, unread } = await this.door.ask("runs", {});
    this.unread = unread;
    const columns = ["run", "policies", "attempts", "tasks", "resolved", "not_graded", "rate", "steps", "completion_tokens", "cost", "running", "started_at"];
    const cell = (row, name) => {
      if (name === "run") return h("td", { class: "id" }, this.anchor("attempts", { "f.run": `=${row.run}` }, row.run));
      if (name === "rate") return h("td", { class: "num" }, share(row) && h("meter", { min: 0, max: 1, value: row.resolved / (row.resolved + row.unresolved) }), ` ${share(row)}`);
      if (name === "policies") return h("td", {}, (row.policies ?? []).join(", "));
      if (name === "running") return h("td", { class: "num" }, row.running ? this.anchor("attempts", { "f.run": `=${row.run}` }, `${row.running} running`) : "");
      return h("td", { class: this.numeric.has(name) || name !== "started_at" ? "num" : "" }, shown(name, row[name]));
    };
    const rows = runs.map((row) => h("tr", { "data-open": this.link("attempts", { "f.run": `=${row.run}` }) }, columns.map((name) => { const td = cell(row, name); if (minor("runs", name)) td.classList.add("minor"); return td; })));
    return [
      h("h1", {}, "Runs"), h("p", { class: "over" }, this.about.root),
      ...refused.map((one) => h("p", { class: "error" }, `${one.run}: ${one.why}`)),
      runs.length ? this.table("runs", columns, rows, {}) : h("p", {}, "There is no run below this folder yet."),
      h("p", {}, h("button", { onclick: () => this.exportNotes() }, "Export notes and tags")),
    ];
  }

  async exportNotes() {
    const notes = await this.door.ask("notes", {});
    const text = notes.map((row) => JSON.stringify(row)).join("\n") + "\n";
    const link = h("a", { href: URL.createObjectURL(new Blob([text], { type: "application/x-ndjson" })), download: "notes.jsonl" });
    link.click();
    URL.revokeObjectURL(link.href);
    this.say(`${notes.length} notes exported`);
  }

  table(caption, columns, rows, { sort, onsort, filters, params } = {}) {
    const head = columns.map((name) => {
      const words = WORDS[name] ?? name.replaceAll("_", " ");
      const by = sort?.replace(/^-/, "") === name ? (sort.startsWith("-") ? "descending" : "ascending") : null;
      const numeric = this.numeric?.has(name) || ["attempts", "resolved", "not_graded", "rate", "tasks", "running"].includes(name);
      const label = onsort ? h("button", { class: "sort", "data-name": `sort-${name}`, onclick: () => onsort(by === "descending" ? name : by === "ascending" ? "" : numeric ? `-${name}` : name) }, words, by === "ascending" ? " ▲" : by === "descending" ? " ▼" : "") : words;
      return h("th", { scope: "col", class: `${numeric ? "num" : ""}${minor(caption, name)}`, "aria-sort": by }, label);
    });
    const filter = filters && h("tr", { class: "filter-row" }, columns.map((name) => h("td", { class: minor(caption, name).trim() }, h("input", {
      "data-name": `f.${name}`, "aria-label": `filter ${WORDS[name] ?? name}`, placeholder: this.numeric.has(name) ? ">5, 3..8" : "contains", value: params[`f.${name}`] ?? "",
      onchange: (event) => filters(name, event.target.value),
    }))));
    return h("div", { class: "tables", tabindex: "0", role: "region", "aria-label": caption }, h("table", { class: "rows" }, h("caption", { class: "unseen" }, caption), h("thead", {}, h("tr", {}, head), filter), h("tbody", {}, rows)));
  }

  // --- attempts ----------------------------------------------------------------------------------------------------

  searchBar(view, params, facets, counts) {
    const change = (more) => this.go(view, { ...params, offset: "", ...more });
    const box = h("input", {
      type: "search", class: "search", "data-name": "q", value: params.q ?? "", placeholder: "search all text ( / )", "aria-label": "search all text of the attempts",
      oninput: (event) => { clearTimeout(this.soon); const words = event.target.value; this.soon = setTimeout(() => change({ q: words }), 250); },
      onkeydown: (event) => { if (event.key === "Enter") { clearTimeout(this.soon); change({ q: event.target.value }); } },
    });
    const choice = (name) => facets[name]?.length > 1 || params[`f.${name}`] ? h("label", {}, `${name} `, h("select", { "data-name": `choose-${name}`, onchange: (event) => change({ [`f.${name}`]: event.target.value }) },
      h("option", { value: "" }, "all"),
      (facets[name] ?? []).filter((one) => one.value !== "").map((one) => { const value = name === "tags" ? one.value : `=${one.value}`; return h("option", { value, selected: params[`f.${name}`] === value }, `${cut(one.value, 40)} (${number(one.attempts)})`); }))) : null;
    const set = Object.keys(params).filter((name) => name.startsWith("f.") || name === "q").length;
    return h("div", { class: "search-bar", role: "search" }, box, ["run", "verdict", "policy", "stop", "tags"].map(choice),
      h("button", { "data-name": "filters", "aria-pressed": String(Boolean(params.filters)), onclick: () => this.go(view, { ...params, filters: params.filters ? "" : "1" }) }, "filters"),
      set ? h("button", { onclick: () => this.go(view, { sort: params.sort, cols: params.cols }) }, "clear") : null,
      h("span", { class: "total", role: "status" }, counts));
  }

  pager(view, params, total) {
    const from = Number(params.offset ?? 0);
    const page = (offset) => this.go(view, { ...params, offset: offset || "" });
    this.paging = [from > 0 ? () => page(Math.max(0, from - PAGE)) : null, from + PAGE < total ? () => page(from + PAGE) : null];
    if (total <= PAGE) return null;
    return h("nav", { class: "pager", "aria-label": "Pages" },
      h("button", { "data-name": "back", disabled: !this.paging[0], onclick: () => this.paging[0]?.() }, "‹ previous"),
      h("span", {}, ` ${number(from + 1)}–${number(Math.min(from + PAGE, total))} of ${number(total)} `),
      h("button", { "data-name": "on", disabled: !this.paging[1], onclick: () => this.paging[1]?.() }, "next ›"));
  }

  async attempts(params) {
    const asked = { ...params, limit: PAGE };
    const [{ rows, counts }, facets, running, state] = await Promise.all([this.door.ask("attempts", asked), this.door.ask("facets", { q: params.q, ...this.filters(params) }), this.door.ask("running", {}), this.door.ask("runs", {})]);
    this.unread = state.unread;
    const only = params["f.run"]?.startsWith("=");
    const chosen = params.cols ? params.cols.split(",").filter((name) => this.about.columns.includes(name)) : SHOWN.filter((name) => name !== "run" || !only);
    const here = this.chosen;
    const drawn = rows.map((row) => {
      const target = { ...this.context(params), run: row.run, id: row.id };
      const tr = h("tr", { "data-open": this.link("attempt", target), "aria-selected": String(here === `${row.run}/${row.id}`), class: `of-${row.verdict.replace(" ", "-")}` }, chosen.map((name) => this.cell(row, name, target)));
      return tr;
    });
    const going = running.filter((row) => !only || row.run === params["f.run"].slice(1));
    const totals = `${number(counts.attempts)} attempts at ${number(counts.tasks)} tasks · ${number(counts.resolved ?? 0)} resolved${share(counts) ? ` (${share(counts)} of the graded)` : ""}, ${number(counts.not_graded ?? 0)} not graded` +
      `${counts.completion_tokens === null ? "" : ` · ${number(counts.completion_tokens)} tokens`}${counts.cost === null ? "" : ` · $${counts.cost.toFixed(2)}`}`;
    return [
      h("h1", {}, only ? params["f.run"].slice(1) : "Attempts"),
      this.searchBar("attempts", params, facets, totals),
      going.length ? this.goingList(going) : null,
      this.table("attempts", chosen, drawn, { sort: params.sort ?? "", params, onsort: (sort) => this.go("attempts", { ...params, sort, offset: "" }), filters: params.filters ? (name, value) => this.go("attempts", { ...params, offset: "", [`f.${name}`]: value }) : null }),
      rows.length ? null : h("p", {}, "No attempt matches."),
      this.pager("attempts", params, counts.attempts),
      this.columnChooser(params, chosen),
    ].filter(Boolean);
  }

  columnChooser(params, chosen) {
    return h("details", { class: "columns", open: this.choosing, ontoggle: (event) => { this.choosing = event.target.open; } }, h("summary", {}, "columns"), h("div", { class: "boxes" }, this.about.columns.filter((name) => name !== "id").map((name) => h("label", {}, h("input", {
      type: "checkbox", "data-name": `col-${name}`, checked: chosen.includes(name),
      onchange: (event) => this.go("attempts", { ...params, cols: this.about.columns.filter((one) => (one === name ? event.target.checked : chosen.includes(one))).join(",") }),
    }), WORDS[name] ?? name.replaceAll("_", " ")))));
  }

  cell(row, name, target) {
    const small = minor("attempts", name);
    if (name === "task") return h("td", { class: "id" }, this.anchor("attempt", target, h("span", { title: row.task }, cut(row.task))));
    if (name === "verdict") return h("td", {}, badge(row.verdict));
    if (name === "tags") return h("td", { class: "minor" }, row.tags ? row.tags.split(", ").map((tag) => h("span", { class: "chip tag" }, tag)) : "", row.note ? h("span", { title: row.note }, " ✎") : "");
    if (this.numeric.has(name)) return h("td", { class: `num${small}` }, shown(name, row[name]));
    return h("td", { class: small.trim(), title: String(row[name] ?? "").length > 44 ? row[name] : null }, cut(String(shown(name, row[name]))));
  }

  goingList(rows) {
    return h("section", { class: "going" }, h("h2", {}, `${rows.length} running`), h("ul", {}, rows.slice(0, 20).map((row) => h("li", {}, this.anchor("running", { run: row.run, id: row.id, task: row.task, attempt: row.attempt }, `${cut(row.task, 50)} · attempt ${row.attempt}`),
      h("span", { class: "over" }, ` ${row.policy} · ${row.steps} steps${row.seconds ? ` · ${duration(row.seconds)}` : ""} · ${row.last}`)))), rows.length > 20 ? h("p", {}, `and ${rows.length - 20} more`) : null);
  }

  filters(params) { return Object.fromEntries(Object.entries(params).filter(([name]) => name.startsWith("f."))); }

  context(params) { return { ...this.filters(params), q: params.q, sort: params.sort, cols: params.cols, filters: params.filters, from: params.offset }; }

  async groups(params) {
    const [{ rows, counts, columns }, facets] = await Promise.all([this.door.ask("groups", { ...params, limit: PAGE }), this.door.ask("facets", { q: params.q, ...this.filters(params) })]);
    const names = [...columns.slice(0, 3), "outcomes", ...columns.slice(3)].filter((name) => name !== "run" || !params["f.run"]?.startsWith("="));
    const drawn = rows.map((row) => h("tr", { "data-open": this.link("attempts", { ...this.filters(params), q: params.q, "f.task": `=${row.task}`, "f.run": `=${row.run}` }) }, names.map((name) => {
      if (name === "task") return h("td", { class: "id" }, this.anchor("attempts", { ...this.filters(params), q: params.q, "f.task": `=${row.task}`, "f.run": `=${row.run}` }, cut(row.task)));
      if (name === "outcomes") return h("td", { class: "strip" }, this.strip(row.outcomes, row.run));
      if (typeof row[name] === "number") return h("td", { class: `num${minor("tasks", name)}` }, shown(name, row[name]));
      return h("td", { class: minor("tasks", name).trim() }, shown(name, row[name]));
    })));
    return [h("h1", {}, "Tasks"), this.searchBar("groups", params, facets, `${number(counts.groups)} groups of attempts: one agent at one task`),
      this.table("tasks", names, drawn, { sort: params.sort ?? "", onsort: (sort) => (sort.replace("-", "") === "outcomes" ? null : this.go("groups", { ...params, sort, offset: "" })), params, filters: params.filters ? (name, value) => this.go("groups", { ...params, offset: "", [`f.${name}`]: value }) : null }),
      this.pager("groups", params, counts.groups)].filter(Boolean);
  }

  strip(rows, run) {
    return rows.map((row) => { const link = this.anchor("attempt", { run: row.run ?? run, id: row.id }, SIGNS[row.verdict] ?? row.verdict); link.className = `sign ${row.verdict.replace(" ", "-")}`; link.title = `attempt ${row.attempt}: ${row.verdict}, ${row.stop}`; link.setAttribute("aria-label", link.title); return link; });
  }

  // --- one attempt -------------------------------------------------------------------------------------------------

  async attempt(params, mine) {
    const { run, id } = params;
    const told = await this.door.ask("attempt", { ...params, offset: "" });
    if (mine !== this.drawing) return null;
    const { row } = told;
    const context = this.context({ ...params, offset: params.from });
    this.chosen = `${run}/${id}`;
    this.neighbours = { previous: told.previous && (() => this.go("attempt", { ...context, ...told.previous })), next: told.next && (() => this.go("attempt", { ...context, ...told.next })), back: () => this.go("attempts", { ...context, from: "", offset: params.from }) };
    const frame = h("iframe", { class: "page", title: `attempt ${row.attempt} at ${row.task}`, sandbox: "allow-scripts" });
    this.door.frame(frame, "page", { run, id }, params.step);
    frame.addEventListener("load", () => this.greet(frame, params));
    const step = h("span", { class: "at-step" }, params.step ?? "0");
    if (this.about.reenter) this.neighbours.enter = () => this.go("enter", { ...context, run, id, from: params.from, step: step.textContent });
    this.atStep = (number) => { step.textContent = number; code.textContent = told.enter.replace("step-STEP", `step-${number}`); };
    const code = h("code", {}, told.enter.replace("step-STEP", `step-${params.step ?? 0}`));
    return h("article", { class: "attempt" },
      h("div", { class: "attempt-bar" },
        h("button", { onclick: this.neighbours.back, title: "Esc" }, "‹ table"),
        h("strong", { class: "id" }, cut(row.task, 60)), h("span", { class: "over" }, `attempt ${row.attempt} · ${row.policy} · ${run}`), badge(row.verdict),
        h("span", { class: "over" }, row.advantage === null || row.advantage === undefined ? "" : `advantage ${number(row.advantage)}`),
        h("span", { class: "spacer" }),
        h("button", { "data-name": "previous", disabled: !told.previous, onclick: () => this.neighbours.previous?.(), title: "↑" }, "previous"),
        h("span", { role: "status" }, told.number ? `${number(told.number)} of ${number(told.total)}` : "not in this table"),
        h("button", { "data-name": "next", disabled: !told.next, onclick: () => this.neighbours.next?.(), title: "↓" }, "next")),
      h("div", { class: "attempt-tools" },
        this.about.reenter ? h("button", { "data-name": "enter", onclick: this.neighbours.enter, title: "r" }, "enter this step") : null,
        h("details", {}, h("summary", {}, this.about.reenter ? "step " : "enter step ", step, this.about.reenter ? " in a notebook" : " in a live sandbox"), h("pre", {}, code), h("button", { onclick: async () => { try { await navigator.clipboard.writeText(code.textContent); this.say("copied"); } catch { this.say("the browser does not allow copying"); } } }, "copy")),
        this.noteBox(row)),
      frame);
  }

  greet(frame, params) {
    if (!frame.src && !frame.srcdoc) return; // a notebook's frame is empty before the kernel answers
    const tell = (message) => frame.contentWindow?.postMessage(message, "*");
    if (params.step) tell({ lab: "go", step: Number(params.step) });
    const words = (params.q ?? "").trim();
    if (words && !/["*]/.test(words) && !params.step) tell({ lab: "hint", words });
    if (frame.moves) tell({ lab: "move", by: frame.moves });
    frame.greeted = true;
    if (!typing(this.root.getRootNode().activeElement)) frame.focus(); // somebody may be writing a note already
  }

  noteBox(row) {
    const tags = row.tags ? row.tags.split(", ") : [];
    if (!this.about.writable) return tags.length || row.note ? h("div", { class: "note" }, tags.map((tag) => h("span", { class: "chip tag" }, tag)), h("p", {}, row.note)) : null;
    const tagBox = h("input", { "data-name": "tags", "aria-label": "tags, separated by commas", placeholder: "tags, separated by commas", value: row.tags });
    const noteBox = h("textarea", { "data-name": "note", "aria-label": "note", placeholder: "note", rows: 3 });
    noteBox.value = row.note;
    const said = h("span", { role: "status" });
    const save = async () => {
      try {
        await this.door.post("note", { run: row.run, id: row.id, note: noteBox.value, tags: tagBox.value.split(",").map((tag) => tag.trim()).filter(Boolean) });
        said.textContent = "kept beside the run";
      } catch (error) { said.textContent = error.message; }
    };
    return h("details", { class: "note", open: Boolean(tags.length || row.note) }, h("summary", {}, "note and tags"), tagBox, noteBox, h("div", {}, h("button", { "data-name": "keep", onclick: save }, "keep"), " ", said));
  }

  // --- a step in a live sandbox ----------------------------------------------------------------------------------------

  async enter(params, mine) {
    const { run, id } = params;
    const [told, player, ...styles] = await Promise.all([this.door.post("enter", { run, id, step: Number(params.step ?? 0) }), this.door.module("player.js"), this.door.file("player.css"), this.door.file("xterm.css")]);
    if (mine !== this.drawing) return null;
    const back = () => this.go("attempt", this.at.params);
    const lost = h("p", { class: "error", role: "alert", hidden: true });
    const holder = h("div", { class: "player" });
    const shadow = holder.attachShadow({ mode: "open" }); // its styles and ours do not meet
    shadow.adoptedStyleSheets = [...styles, OURS].map((text) => { const sheet = new CSSStyleSheet(); sheet.replaceSync(text); return sheet; });
    this.neighbours = { back };
    this.begin = () => {
      const model = new Remote(this.door, told, (error) => { lost.hidden = !error; lost.textContent = error?.message ?? ""; });
      model.on("change:detail", () => { if (this.at.view === "enter") this.go("enter", { ...this.at.params, step: model.get("detail").step }, true); });
      const end = player.default.render({ model, el: shadow });
      this.ending = () => { end(); model.stop(); };
      shadow.addEventListener("lab-leave", back);
      if (model.get("detail").step !== Number(params.step ?? 0)) model.send({ do: "goto", step: Number(params.step) });
      shadow.querySelector(".lab-player").focus();
    };
    return h("article", { class: "attempt" }, h("div", { class: "attempt-bar" }, h("button", { onclick: back, title: "Esc" }, "‹ attempt"), h("span", { class: "over" }, `${run} · each step is a sandbox of its own: what you change in it stays there until you reset it`)), lost, holder);
  }

  // --- running attempts --------------------------------------------------------------------------------------------

  async running(params) {
    const { run, id } = params;
    const holder = h("div", { class: "frames" });
    const state = h("span", { role: "status" });
    const box = h("input", { type: "checkbox", "data-name": "follow", checked: true });
    let steps = -1, loading = false;
    const load = async (count) => {
      loading = true;
      const frame = h("iframe", { class: "page coming", title: `running attempt at ${params.task ?? ""}`, sandbox: "allow-scripts" });
      this.frames.add(frame);
      frame.addEventListener("load", () => {
        for (const old of [...holder.children]) if (old !== frame) { old.remove(); this.frames.delete(old); }
        frame.classList.remove("coming");
        if (box.checked && count) frame.contentWindow?.postMessage({ lab: "go", step: count - 1 }, "*");
        loading = false;
      }, { once: true });
      await this.door.frame(frame, "running-page", { run, id }); // first: an empty frame would count as loaded
      holder.append(frame);
    };
    this.follow = async () => {
      const row = (await this.door.ask("running", { run })).find((one) => one.id === id);
      if (!row) {
        const { rows } = await this.door.ask("attempts", { "f.run": `=${run}`, "f.task": `=${params.task}`, "f.attempt": params.attempt, sort: "-started_at", limit: 1 });
        state.textContent = rows.length ? "it is over" : "it is over, and not kept yet";
        if (rows.length) { this.follow = null; this.go("attempt", { run, id: rows[0].id }); }
        return;
      }
      state.textContent = `${row.steps} steps${row.seconds ? ` in ${duration(row.seconds)}` : ""}: ${row.last}`;
      if (row.steps !== steps && !loading) { steps = row.steps; load(steps); }
    };
    this.neighbours = { back: () => this.go("attempts", { "f.run": `=${run}` }) };
    setTimeout(() => this.tick(), 0);
    return h("article", { class: "attempt" }, h("div", { class: "attempt-bar" }, h("button", { onclick: this.neighbours.back }, "‹ table"), h("strong", { class: "id" }, cut(params.task ?? id, 60)), h("span", { class: "badge running" }, "running"), state, h("span", { class: "spacer" }), h("label", {}, box, " follow")), holder);
  }

  // --- comparing ---------------------------------------------------------------------------------------------------

  async compare(params) {
    const sides = await this.door.ask("sides", {});
    const a = params.a ?? sides[0]?.side, b = params.b ?? sides[1]?.side ?? a;
    const select = (name, value) => h("label", {}, `${name.toUpperCase()} `, h("select", { "data-name": name, onchange: (event) => this.go("compare", { a, b, [name]: event.target.value }) },
      sides.map((side) => h("option", { value: side.side, selected: side.side === value }, `${cut(side.policy, 40)} · ${side.run} (${side.resolved} of ${side.attempts})`))));
    const head = [h("h1", {}, "Compare"), h("div", { class: "search-bar sides" }, select("a", a), select("b", b))];
    if (sides.length < 2) return [...head, h("p", {}, "There are no two agents to compare.")];
    let told;
    try { told = await this.door.ask("compare", { a, b }); } catch (error) { return [...head, h("p", { class: "error", role: "alert" }, error.message)]; }
    const only = params.change;
    const chips = Object.entries(told.counts).map(([change, count]) => h("button", { class: `chip ${change.replace(" ", "-")}`, "aria-pressed": String(only === change), onclick: () => this.go("compare", { a, b, change: only === change ? "" : change }) }, `${count} ${change}`));
    const rows = told.tasks.filter((row) => !only || row.change === only).slice(0, 2000).map((row) => h("tr", { "data-open": this.link("pair", this.pairOf(row, a, b)) },
      h("td", { class: "id" }, this.anchor("pair", this.pairOf(row, a, b), h("span", { title: row.task }, cut(row.task, 60)))), h("td", { class: `change ${row.change.replace(" ", "-")}` }, row.change), ...["a", "b"].map((side) => h("td", { class: "strip" }, this.strip(row[side])))));
    const table = this.table("compared tasks", ["task", "change", ...told.names], rows, {});
    return [...head, h("p", {}, told.statistics), h("p", { class: "over" }, `${told.only[0]} tasks of A alone, ${told.only[1]} of B alone are not compared`), h("p", { class: "chips" }, chips), table];
  }

  pairOf(row, a, b) {
    const pick = (side) => (row.change === "gained" || row.change === "kept" ? (side === "b" ? "resolved" : "unresolved") : side === "a" ? "resolved" : "unresolved");
    const best = (side) => row[side].find((one) => one.verdict === pick(side)) ?? row[side][0];
    const [left, right] = [best("a"), best("b")];
    return { arun: left.run, aid: left.id, brun: right.run, bid: right.id, a, b };
  }

  async pair(params) {
    const { arun, aid, brun, bid } = params;
    this.neighbours = { back: () => this.go("compare", { a: params.a, b: params.b }) };
    const bar = h("div", { class: "attempt-bar" }, h("button", { onclick: this.neighbours.back }, "‹ comparison"), this.anchor("attempt", { run: arun, id: aid }, "open A"), this.anchor("attempt", { run: brun, id: bid }, "open B"));
    if (!this.door.pairs) {
      const both = ["a", "b"].map((side) => { const frame = h("iframe", { class: "page", title: side, sandbox: "allow-scripts" }); this.door.frame(frame, "page", { run: params[`${side}run`], id: params[`${side}id`] }); return frame; });
      return h("article", { class: "attempt" }, bar, h("div", { class: "two" }, both));
    }
    const frame = h("iframe", { class: "page", title: "two attempts side by side", sandbox: "allow-scripts" });
    this.door.frame(frame, "pair", { arun, aid, brun, bid });
    return h("article", { class: "attempt" }, bar, frame);
  }

  // --- keys, messages, news ------------------------------------------------------------------------------------------

  message(event) {
    const frame = [...this.frames].find((one) => one.contentWindow === event.source);
    const told = event.data;
    if (!frame || typeof told !== "object" || told === null) return;
    if (told.lab === "next") this.neighbours?.next?.();
    else if (told.lab === "previous") this.neighbours?.previous?.();
    else if (told.lab === "back") this.neighbours?.back?.();
    else if (told.lab === "enter") this.neighbours?.enter?.();
    else if (told.lab === "at" && Number.isInteger(told.step) && this.at.view === "attempt") {
      this.go("attempt", { ...this.at.params, step: told.step }, true);
      this.atStep?.(String(told.step));
    }
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || this.help.open) return;
    const inside = this.root.getRootNode().activeElement;
    if (typing(inside)) { if (event.key === "Escape") { inside.blur(); this.main.focus(); event.preventDefault(); } return; }
    const act = { "/": () => this.main.querySelector(".search")?.focus(), "?": () => this.help.showModal(), f: () => this.main.querySelector("[data-name=filters]")?.click(), Escape: () => (this.neighbours?.back ?? (() => this.go("runs", {})))(), r: () => this.neighbours?.enter?.(), ArrowRight: () => this.step(1), l: () => this.step(1), ArrowLeft: () => this.step(-1), h: () => this.step(-1), "[": () => this.paging?.[0]?.(), "]": () => this.paging?.[1]?.(), ArrowDown: () => this.select(1), j: () => this.select(1), ArrowUp: () => this.select(-1), k: () => this.select(-1), Enter: () => { const row = this.main.querySelector("tr[aria-selected=true]"); if (row && inside?.tagName !== "BUTTON" && inside?.tagName !== "SUMMARY") row.querySelector("a")?.click(); else return true; } }[event.key];
    if (act && act() !== true) event.preventDefault();
  }

  // Keys of steps that come while the focus is beside the attempt's frame; before it is loaded they wait.
  step(by) {
    const frame = this.at.view === "attempt" && this.main.querySelector("iframe.page");
    if (!frame) return true;
    if (frame.greeted) { frame.focus(); frame.contentWindow.postMessage({ lab: "move", by }, "*"); } else frame.moves = (frame.moves ?? 0) + by;
    return undefined;
  }

  select(by) {
    if (this.neighbours?.next && by > 0) return this.neighbours.next();
    if (this.neighbours?.previous && by < 0) return this.neighbours.previous();
    const rows = [...this.main.querySelectorAll("tr[data-open]")];
    const at = rows.findIndex((row) => row.getAttribute("aria-selected") === "true");
    const row = rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? (by > 0 ? 0 : rows.length - 1) : at + by))];
    if (!row) return undefined;
    this.mark(row);
    row.querySelector("a")?.focus({ preventScroll: true });
    row.scrollIntoView({ block: "nearest" });
    return undefined;
  }

  say(words) { this.status.textContent = words; }

  // What comes while we look: tables are drawn again when there is more, and a running attempt goes on.
  watch() {
    clearTimeout(this.timer);
    if (this.stopped || !this.door.live) return;
    this.timer = setTimeout(() => this.tick().finally(() => this.watch()), document.hidden ? 5000 : 1000);
  }

  async tick() {
    try {
      if (this.follow) return await this.follow();
      const { view } = this.at;
      if (!["runs", "attempts", "groups"].includes(view)) return undefined;
      const { state, unread, runs } = await this.door.ask("runs", {});
      const now = JSON.stringify([state, unread, runs.map((run) => run.running), runs.some((run) => run.running) ? Math.floor(Date.now() / 3000) : 0]);
      if (this.seen && now !== this.seen && !typing(this.root.getRootNode().activeElement) && !this.choosing) await this.draw();
      this.seen = now;
      this.lost(false);
    } catch (error) { this.lost(true, error); }
    return undefined;
  }

  lost(is, error) { this.top.classList.toggle("lost", is); const place = this.top.querySelector(".state"); if (is && place) place.textContent = `the viewer's server does not answer: ${error.message}`; }
}
