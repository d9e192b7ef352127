// The door of a bundle: answers are made here, from files that were written once. Words are found, phrases are not.
import { View } from "./view.js";

const load = async (name) => { const response = await fetch(`data/${name}`); if (response.status === 404) return null; if (!response.ok) throw new Error(`${name}: ${response.statusText}`); return response.json(); };
const once = (make) => { let made; return () => (made ??= make()); };
const about = once(() => load("about.json"));
const table = once(async () => { const { columns, rows } = await load("rows.json"); return rows.map((row, place) => Object.fromEntries([["place", place], ...columns.map((name, at) => [name, row[at]])])); });
const shards = new Map();
const shard = (name) => { if (!shards.has(name)) shards.set(name, load(`words/${name}.json`)); return shards.get(name); };
const words = (text) => text.normalize("NFKD").replace(/\p{Mn}/gu, "").toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
const hex = (text) => [...new TextEncoder().encode([...text].slice(0, 2).join(""))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const places = (deltas) => { let at = 0; return deltas.map((delta) => (at += delta)); };

async function matches(search) {
  let left = null;
  for (const term of search.match(/"[^"]*"|\S+/g) ?? []) {
    const parts = words(term);
    for (const [number, word] of parts.entries()) {
      const stored = (await shard(hex(word))) ?? {};
      const open = term.endsWith("*") && number === parts.length - 1;
      const hits = new Set((open ? Object.keys(stored).filter((one) => one.startsWith(word)) : [word]).flatMap((one) => (Object.hasOwn(stored, one) ? places(stored[one]) : [])));
      left = left === null ? hits : new Set([...left].filter((place) => hits.has(place)));
    }
  }
  return left;
}

function condition(name, given, numeric) {
  const text = given.trim();
  if (!numeric) {
    if (text.startsWith("!=")) return (row) => row[name] !== text.slice(2);
    if (text.startsWith("=")) return (row) => row[name] === text.slice(1);
    const wanted = text.replace(/^!/, "").toLowerCase(), inside = !text.startsWith("!");
    return (row) => row[name].toLowerCase().includes(wanted) === inside;
  }
  if (/^(none|unknown)$/i.test(text)) return (row) => row[name] === null;
  const range = /^(-?[\d.]+)\s*\.\.\s*(-?[\d.]+)$/.exec(text);
  if (range) return (row) => row[name] !== null && row[name] >= Number(range[1]) && row[name] <= Number(range[2]);
  const bound = /^(<=|>=|<|>|=|!=)?\s*(-?\d+(?:\.\d+)?(?:e-?\d+)?)$/i.exec(text);
  if (!bound) throw new Error(`filtering by ${name}: '${text}' is no number; write 5, >5, <=0.2, 3..8 or none`);
  const limit = Number(bound[2]);
  const tests = { "<": (x) => x < limit, "<=": (x) => x <= limit, ">": (x) => x > limit, ">=": (x) => x >= limit, "!=": (x) => x !== limit, "=": (x) => x === limit };
  return (row) => row[name] !== null && tests[bound[1] ?? "="](row[name]);
}

async function chosen(params) {
  const numeric = new Set((await about()).numeric);
  const found = params.q ? await matches(params.q) : null;
  const tests = Object.entries(params).filter(([name, value]) => name.startsWith("f.") && value?.trim()).map(([name, value]) => condition(name.slice(2), value, numeric.has(name.slice(2))));
  return (await table()).filter((row) => (found === null || found.has(row.place)) && tests.every((test) => test(row)));
}

function ordered(rows, sort) {
  if (!sort) return rows;
  const name = sort.replace(/^-/, ""), way = sort.startsWith("-") ? -1 : 1;
  const empty = (value) => value === null || value === undefined;
  return [...rows].sort((a, b) => empty(a[name]) - empty(b[name]) || way * (typeof a[name] === "string" ? a[name].localeCompare(b[name]) : a[name] - b[name]) || way * ((a.place ?? 0) - (b.place ?? 0)));
}

const sum = (rows, name) => (rows.length && rows.every((row) => row[name] !== null) ? rows.reduce((all, row) => all + row[name], 0) : null);
const mean = (rows, name) => { const values = rows.map((row) => row[name]).filter((value) => value !== null); return values.length ? values.reduce((a, b) => a + b, 0) / values.length : null; };
const grouped = (rows, key) => { const groups = new Map(); for (const row of rows) { const at = key(row); if (!groups.has(at)) groups.set(at, []); groups.get(at).push(row); } return groups; };
const totals = (rows) => {
  const count = (verdict) => rows.filter((row) => row.verdict === verdict).length;
  return { attempts: rows.length, tasks: new Set(rows.map((row) => row.task)).size, resolved: count("resolved"), unresolved: count("unresolved"), not_graded: count("not graded"),
    reward: mean(rows, "reward"), steps: mean(rows, "steps"), seconds: mean(rows, "seconds"), completion_tokens: sum(rows, "completion_tokens"), cost: sum(rows, "cost") };
};

const answers = {
  about,
  sides: async () => (await load("sides.json")),
  notes: () => load("notes.json"),
  running: async () => [],
  runs: async () => ({ unread: 0, state: [], refused: [], runs: [...grouped(await table(), (row) => row.run)].map(([run, rows]) => ({ run, ...totals(rows), policies: [...new Set(rows.map((row) => row.policy))].slice(0, 6), running: 0, started_at: Math.max(...rows.map((row) => row.started_at ?? 0)) })) }),
  attempts: async (params) => { const rows = await chosen(params); const from = Number(params.offset ?? 0); return { rows: ordered(rows, params.sort).slice(from, from + Number(params.limit ?? 100)), counts: totals(rows) }; },
  groups: async (params) => {
    const all = [...grouped(await chosen(params), (row) => JSON.stringify([row.run, row.task, row.agent])).values()].map((rows) => ({ run: rows[0].run, task: rows[0].task, policy: rows[0].policy, ...totals(rows), outcomes: rows.slice(0, 64) }));
    const rows = ordered(all.sort((a, b) => a.task.localeCompare(b.task)), params.sort), from = Number(params.offset ?? 0);
    return { rows: rows.slice(from, from + 100), counts: { groups: rows.length }, columns: ["run", "task", "policy", "attempts", "resolved", "not_graded", "reward", "steps", "seconds", "completion_tokens", "cost"] };
  },
  facets: async (params) => {
    const rows = await chosen(params);
    const counts = (values) => [...grouped(values, (value) => value)].map(([value, same]) => ({ value, attempts: same.length })).sort((a, b) => b.attempts - a.attempts);
    return { ...Object.fromEntries(["run", "verdict", "stop", "policy"].map((name) => [name, counts(rows.map((row) => row[name]))])), tags: counts(rows.flatMap((row) => (row.tags ? row.tags.split(", ") : []))) };
  },
  attempt: async (params) => {
    const rows = ordered(await chosen(params), params.sort);
    const at = rows.findIndex((row) => row.run === params.run && row.id === params.id);
    const row = rows[at] ?? (await table()).find((one) => one.run === params.run && one.id === params.id);
    if (!row) throw new Error("this bundle has no such attempt");
    const key = (one) => one && { run: one.run, id: one.id };
    return { row, number: at + 1, total: rows.length, previous: at > 0 ? key(rows[at - 1]) : null, next: at >= 0 ? key(rows[at + 1]) ?? null : null, enter: row.enter };
  },
  compare: async ({ a, b }) => {
    const sides = (await load("sides.json")).map((side) => side.side);
    const told = await load(`compare/${sides.indexOf(a)}-${sides.indexOf(b)}.json`);
    if (told === null) throw new Error("this comparison is not in the bundle");
    if (told.error) throw new Error(told.error);
    return told;
  },
};
const door = {
  live: false,
  pairs: false,
  ask: (what, params) => answers[what](params),
  frame: async (frame, what, { run, id }) => { const row = (await table()).find((one) => one.run === run && one.id === id); if (row) frame.src = `attempts/${row.page}`; },
  place: () => { const [view, params] = location.hash.slice(1).split("?"); return { view: view || "runs", params: Object.fromEntries(new URLSearchParams(params ?? "")) }; },
  move: (to, quietly) => (quietly ? history.replaceState(null, "", to) : history.pushState(null, "", to)),
  moved: (call) => { addEventListener("popstate", call); },
};
new View(document.getElementById("view"), door).start().then(
  () => document.documentElement.classList.add("js"),
  (error) => { document.getElementById("view").textContent = error.message; },
);
