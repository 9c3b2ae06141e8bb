"use strict";
// Shows the attempts. Everything a model wrote is set as text; nothing here builds markup from strings.

const OUTCOMES = { right: "✓ right", wrong: "✗ wrong", no_answer: "– no answer", failed: "! failed" };

/** An element with attributes and children; `null` children are left out, strings become text. */
function h(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

const CHUNK = 250; // rows made at a time: a list of all 10,000 would take seconds to lay out
const byId = (id) => document.getElementById(id);
const read = (id) => JSON.parse(byId(id).textContent);
const attempts = read("index");
const state = { open: -1, matching: [], hidden: new Set(), tag: "", query: "" };
const rows = new Map(); // by index, those that were made

/** Whether an attempt passes the filters. The query is looked for in the whole record, unparsed. */
function matches(attempt, index) {
  if (state.hidden.has(attempt.outcome)) return false;
  if (state.tag) {
    const [name, value] = JSON.parse(state.tag);
    if (attempt.tags[name] !== value) return false;
  }
  if (!state.query) return true;
  const record = byId("a" + index);
  const plain = attempt.problem + " " + attempt.question + " " + (record ? record.textContent : "");
  return plain.toLowerCase().includes(state.query);
}

function filter() {
  state.matching = attempts.map((_, index) => index).filter((index) => matches(attempts[index], index));
  rows.clear();
  byId("list").replaceChildren();
  extend();
  byId("count").textContent = state.matching.length + " of " + attempts.length;
  if (state.matching.includes(state.open)) open(state.open, false);
  else if (state.matching.length > 0) open(state.matching[0], false);
}

/** Makes the next rows of the list, at least up to position `least` among those that match. */
function extend(least = 0) {
  const list = byId("list");
  if (list.lastChild && list.lastChild.className === "more") list.lastChild.remove();
  const end = Math.min(state.matching.length, Math.max(rows.size + CHUNK, least + 1));
  for (const index of state.matching.slice(rows.size, end)) {
    rows.set(index, row(attempts[index], index));
    list.append(rows.get(index));
  }
  const left = state.matching.length - end;
  if (left > 0) list.append(h("li", { class: "more" }, h("button", { type: "button", onclick: () => extend() }, left + " more")));
}

function row(attempt, index) {
  const id = attempt.problem + (attempt.repeat > 0 ? " #" + (attempt.repeat + 1) : "");
  const label = OUTCOMES[attempt.outcome];
  return h("li", null, h("button", { type: "button", onclick: () => open(index, true) },
    h("span", { class: "id" }, h("span", { class: attempt.outcome, title: label }, label[0]), h("span", null, id),
      h("span", null, attempt.steps + (attempt.steps === 1 ? " step" : " steps"))),
    h("span", { class: "q" }, attempt.question)));
}

function open(index, move) {
  const button = (of) => rows.has(of) && rows.get(of).firstChild;
  if (button(state.open)) button(state.open).removeAttribute("aria-current");
  state.open = index;
  if (button(index)) button(index).setAttribute("aria-current", "true");
  if (move) {
    button(index).focus({ preventScroll: true });
    button(index).scrollIntoView({ block: "nearest" });
    history.replaceState(null, "", "#" + index);
  }
  byId("detail").replaceChildren(...detail(attempts[index], index));
}

/** Opens the next attempt of those that match, in direction `by`. */
function step(by) {
  const at = state.matching.indexOf(state.open) + by;
  if (at < 0 || at >= state.matching.length) return;
  if (!rows.has(state.matching[at])) extend(at);
  open(state.matching[at], true);
}

function detail(attempt, index) {
  const title = h("h3", null, attempt.problem + " ", h("small", null, "attempt " + (attempt.repeat + 1)));
  if (!attempt.shown) {
    const where = "This page would be too large with it: see line " + attempt.line + " of trajectories.jsonl.";
    return [title, h("p", { class: "question" }, attempt.question), h("p", null, where)];
  }
  const record = read("a" + index);
  const facts = [
    ["read as", record.pred_read === null ? "nothing" : record.pred_read],
    ["gold", record.gold_read === record.gold ? record.gold : record.gold + " (read as " + record.gold_read + ")"],
    ["how", record.how],
    ["answer given", record.answer === null ? "none" : record.answer],
    ["stopped", record.stop],
    ["error", record.error],
    ["spent", `${record.prompt_tokens} + ${record.completion_tokens} tokens, ${record.wall_s.toFixed(2)} s`],
    ["record", "line " + record.line + " of trajectories.jsonl"],
  ];
  const tags = Object.entries(attempt.tags).map(([name, value]) => [name, value]);
  const list = [...facts, ...tags]
    .filter(([, value]) => value !== null)
    .map(([name, value]) => [h("dt", null, name), h("dd", null, value)]);
  return [
    title,
    h("p", { class: "question" }, record.question),
    record.choices && h("ol", { class: "choices" }, record.choices.map((choice) => h("li", null, choice))),
    h("div", { class: "verdict" }, h("strong", { class: attempt.outcome }, OUTCOMES[attempt.outcome]), h("dl", null, list)),
    h("ol", { class: "steps-of" }, record.steps.map(stepOf)),
  ].filter(Boolean);
}

function stepOf(step, index) {
  const label = (text) => h("p", { class: "label" }, text);
  const spent = `${step.tokens} tokens · ${step.wall_ms} ms` + (step.prm_score === null ? "" : ` · PRM ${step.prm_score.toFixed(2)}`);
  const head = h("h4", null, "Step " + (index + 1), h("span", null, step.action || "unreadable reply"), h("small", null, spent));
  const thinking = step.thinking && h("details", null, h("summary", null, "thinking"), h("pre", null, step.thinking));
  if (step.action === null) {
    return h("li", null, head, thinking || null, h("pre", { class: "bad" }, step.raw), h("p", null, step.output));
  }
  const output = step.action === "answer" ? null : [
    label(step.ok ? (step.cut ? "output, cut" : "output") : "failed"),
    h("pre", { class: step.ok ? null : "bad", tabindex: 0 }, step.output),
  ];
  return h("li", null, head, thinking || null,
    h("p", null, step.thought),
    step.input ? h("pre", { tabindex: 0 }, step.input) : null,
    output,
    label((step.sufficient ? "sufficient: " : "not sufficient: ") + step.reason));
}

function start() {
  const counts = {};
  const tags = new Map();
  for (const attempt of attempts) {
    counts[attempt.outcome] = (counts[attempt.outcome] || 0) + 1;
    for (const [name, value] of Object.entries(attempt.tags)) {
      tags.set(JSON.stringify([name, value]), name + ": " + value);
    }
  }
  for (const [outcome, label] of Object.entries(OUTCOMES)) {
    if (!counts[outcome]) continue;
    const toggle = (event) => {
      const hide = !state.hidden.delete(outcome);
      if (hide) state.hidden.add(outcome);
      event.currentTarget.setAttribute("aria-pressed", String(!hide));
      filter();
    };
    const attributes = { type: "button", class: outcome, "aria-pressed": "true", onclick: toggle };
    byId("outcomes").append(h("button", attributes, `${label} ${counts[outcome]}`));
  }
  const options = [...tags].sort((a, b) => a[1].localeCompare(b[1], undefined, { numeric: true }));
  byId("tag").append(...options.map(([value, label]) => h("option", { value }, label)));
  byId("tag").hidden = options.length === 0;

  let typed;
  byId("search").addEventListener("input", (event) => {
    clearTimeout(typed);
    const query = event.target.value.trim().toLowerCase();
    typed = setTimeout(() => { state.query = query; filter(); }, 120);
  });
  byId("tag").addEventListener("change", (event) => { state.tag = event.target.value; filter(); });
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && event.target === byId("search")) {
      byId("search").value = state.query = "";
      byId("search").blur();
      filter();
    } else if (typing) return;
    else if (event.key === "/") { event.preventDefault(); byId("search").focus(); }
    else if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
  });
  const wanted = Number.parseInt(location.hash.slice(1), 10);
  if (wanted >= 0 && wanted < attempts.length) state.open = wanted;
  filter();
  const at = state.matching.indexOf(state.open);
  if (at >= rows.size) extend(at);
  if (state.open >= 0) open(state.open, wanted === state.open);
}

start();
