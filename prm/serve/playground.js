
"use strict";

// From step scores to a reward: prm/aggregation.py, number for number.

const AGGREGATE = {
  min: scores => scores.reduce((least, score) => (score < least ? score : least)),
  product: scores => scores.reduce((all, score) => all * Math.min(Math.max(score, 0), 1), 1),
  last: scores => scores[scores.length - 1],
  mean: scores => exactSum(scores) / scores.length,
};

// The sum rounded once, whatever the order, as Python's math.fsum has it.
function exactSum(values) {
  const parts = values.filter(value => value !== 0).map(value => {
    const bits = new BigUint64Array(Float64Array.of(Math.abs(value)).buffer)[0];
    const exponent = Number(bits >> 52n), fraction = bits & ((1n << 52n) - 1n);
    const whole = exponent ? fraction | (1n << 52n) : fraction;
    return {whole: value < 0 ? -whole : whole, exponent: Math.max(exponent, 1) - 1075};
  });
  if (!parts.length) return 0;
  let exponent = Math.min(...parts.map(part => part.exponent));
  let sum = parts.reduce((all, part) => all + (part.whole << BigInt(part.exponent - exponent)), 0n);
  const sign = sum < 0n ? -1 : 1;
  sum = sum < 0n ? -sum : sum;
  // Number() rounds to nearest, but a sum of more bits than it can hold is first made one of 64,
  // of which the last tells whether anything stood behind it.
  const extra = Math.max(sum.toString(2).length - 64, 0);
  if (extra) {
    const shift = BigInt(extra), top = sum >> shift;
    sum = top << shift === sum ? top : top | 1n;
    exponent += extra;
  }
  return sign * Number(sum) * 2 ** exponent;
}

// Places of candidates, best first, equal ones in their order; those without scores come last.
function ranking(candidates, method) {
  const rewards = candidates.map(one => (one.scores ? AGGREGATE[method](one.scores) : null));
  const places = candidates.map((_, place) => place);
  places.sort((a, b) => (rewards[a] === null) - (rewards[b] === null) || rewards[b] - rewards[a]);
  return places.map(place => ({place, reward: rewards[place]}));
}

// The ends of the scale: 0 and 1, or further out where a score is.
function scaleOf(scores) {
  const least = Math.min(0, ...scores), greatest = Math.max(1, ...scores);
  return {least, greatest, share: score => (score - least) / (greatest - least)};
}

// Every text gets into the page here, and only as text.

// Control characters and marks of direction are shown: with them a text could look like another.
const UNSEEN = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const visible = text => text.replace(UNSEEN, sign =>
  `‹U+${sign.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}›`);

function make(name, traits, ...parts) {
  const element = Object.assign(document.createElement(name), traits);
  element.append(...parts.map(part => (typeof part === "string" ? visible(part) : part)));
  return element;
}

const at = id => document.getElementById(id);
const picked = name => document.querySelector(`input[name="${name}"]:checked`).value;
const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
const shortly = number =>
  number !== 0 && Math.abs(number) < 0.001 ? number.toPrecision(2) : number.toFixed(3);

// Candidates

function addCandidate(text = "") {
  const label = make("label", {}), area = make("textarea", {rows: 5, dir: "auto", value: text});
  const remove = make("button", {type: "button", textContent: "Remove"});
  const part = make("div", {className: "candidate"}, label, remove, area);
  remove.addEventListener("click", () => {
    const next = part.nextElementSibling ?? part.previousElementSibling;
    part.remove();
    numberCandidates();
    (next ? next.querySelector("textarea") : at("add")).focus();
  });
  at("candidates").append(part);
  numberCandidates();
  return area;
}

const areas = () => [...at("candidates").querySelectorAll("textarea")];

function numberCandidates() {
  areas().forEach((area, index) => {
    area.id = `candidate-${index + 1}`;
    const [label, remove] = area.parentElement.children;
    label.htmlFor = area.id;
    label.textContent = `Candidate ${index + 1}`;
    remove.setAttribute("aria-label", `Remove candidate ${index + 1}`);
  });
}

const parted = text => text.split(/\n[ \t\r]*\n\s*/).filter(step => step.trim());

// Asking

let underWay = null, known = "";

class Refused extends Error {
  constructor(message, where = "", status = 0) {
    super(message);
    Object.assign(this, {where, status});
  }
}

async function ask(path, body, signal) {
  const key = at("key").value.trim(), headers = {"Content-Type": "application/json"};
  if (/[^\x20-\x7e]/.test(key)) throw new Refused("the key holds a character that no header can carry");
  if (key) headers.Authorization = `Bearer ${key}`;
  let response;
  try {
    // The address is relative, for a proxy may serve this under a folder.
    response = await fetch(path, {method: "POST", headers, body: JSON.stringify(body), signal});
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("no answer; does the server run?");
  }
  const answer = await response.json().catch(error => {
    if (error.name === "AbortError") throw error;
    return null;
  });
  if (response.ok && answer) return [answer, response.headers.get("X-PRM-Tokens")];
  const {message, where} = answer?.error ?? {message: "the answer is not this server's"};
  throw new Refused(message, where, response.status);
}

// One request at a time: asks, and shows what comes.
async function work(how) {
  if (underWay) return;
  const began = performance.now();
  underWay = new AbortController();
  at("error").hidden = true;
  for (const area of document.querySelectorAll("[aria-invalid]")) area.removeAttribute("aria-invalid");
  at("said").textContent = "at work";
  showState();
  try {
    const {told, candidates} = await how(underWay.signal);
    shown = candidates;
    known = `${told} · ${((performance.now() - began) / 1000).toFixed(2)} s`;
    draw();
  } catch (error) {
    at("results").hidden = true;
    at("said").textContent = error.name === "AbortError" ? "stopped" : "no result";
    if (error.name !== "AbortError") showError(error);
  }
  underWay = null;
  showState();
}

function showError(error) {
  const item = /^items\.(\d+)/.exec(error.where), index = item ? Number(item[1]) : -1;
  at("error").replaceChildren(
    make("b", {}, error.status ? `Error ${error.status}` : "Error"),
    ...(error.where ? [" in ", make("code", {}, error.where)] : []),
    ...(item ? [` (candidate ${index + 1})`] : []), ": ", make("span", {className: "text"}, error.message));
  at("error").hidden = false;
  const area = error.status === 401 ? at("key") : areas()[index];
  if (area) {
    area.setAttribute("aria-invalid", "true");
    area.focus();
  }
  if (!error.status || error.status === 503) watch();
}

async function score(signal) {
  const texts = areas().map(area => area.value), split = picked("steps") === "split";
  const reference = at("reference").value.trim() ? {reference: at("reference").value} : {};
  const items = texts.map(text => {
    const steps = parted(text);  // a blank text has none, and the server says so best of a text
    return {question: at("problem").value, ...reference, ...(split || !steps.length ? {text} : {steps})};
  });
  const [answer, tokens] = await ask("v1/prm/score", {items, aggregation: picked("aggregation")}, signal);
  const candidates = answer.results.map((result, index) => ({
    name: `Candidate ${index + 1}`, scores: result.scores, error: result.error,
    steps: result.steps ?? items[index].steps ?? [texts[index]],
  }));
  const steps = candidates.reduce((all, one) => all + (one.scores ? one.steps.length : 0), 0);
  const told = [answer.model, count(candidates.length, "candidate"), count(steps, "scored step")];
  if (tokens !== null) told.push(count(Number(tokens), "token") + " read");
  return {told: told.join(" · "), candidates};
}

async function askPolicy(signal) {
  const tokens = at("tokens").value ? {max_tokens: Number(at("tokens").value)} : {};
  const [answer] = await ask("v1/chat/completions", {
    messages: [{role: "user", content: at("problem").value}],
    temperature: Number(at("temperature").value), ...tokens,
    best_of_n: {n: Number(at("count").value), aggregation: picked("aggregation"), return_candidates: true},
  }, signal);
  const found = answer.best_of_n, usage = answer.usage;
  const candidates = found.candidates.map((one, index) => ({
    name: `Answer ${index + 1}`, scores: one.scores, error: one.error,
    steps: one.steps.length ? one.steps : [one.text].filter(Boolean), final: one.answer,
  }));
  const told = [
    `${answer.model} read ${usage.prompt_tokens} and wrote ${count(usage.completion_tokens, "token")}`,
    `${found.scorer} read ${found.scorer_tokens}`,
  ];
  return {told: told.join(" · "), candidates};
}

// Showing

let shown = [];

function draw() {
  const method = picked("aggregation"), order = ranking(shown, method);
  const scores = shown.flatMap(one => one.scores ?? []), scale = scaleOf(scores);
  at("results").hidden = false;
  at("scale").hidden = !scores.length;
  at("least").textContent = shortly(scale.least);
  at("greatest").textContent = shortly(scale.greatest);
  at("scale-note").textContent = scale.least < 0 || scale.greatest > 1
    ? "Some of these scores lie outside [0, 1]: they are raw, and no probabilities. So the scale"
      + " was stretched to hold them all; product clamps each to [0, 1] first." : "";
  at("ranking").replaceChildren(...order.map((own, rank) => card(own, rank, method, scale)));
  const best = order[0]?.reward === null ? "none can be chosen" : `chosen by ${method}: ${shown[order[0].place].name}`;
  at("said").textContent = visible(`${known} · ${best}`);
}

function card({place, reward}, rank, method, scale) {
  const one = shown[place], title = make("h3", {}, reward === null ? one.name : `${rank + 1}. ${one.name}`);
  const body = make("ol", {className: "steps"});
  one.steps.forEach((step, index) => body.append(make("li", {},
    make("span", {className: "number"}, `${index + 1}`),
    one.scores ? badge(one.scores[index], scale) : make("span", {}),
    make("span", {className: "text", dir: "auto"}, step))));
  const item = make("li", {}, title, body);
  if (reward === null) {
    body.before(make("p", {className: "failed"}, `not scored: ${one.error}`));
    return item;
  }
  if (one.final) title.append(make("span", {className: "note"}, `final answer ${one.final}`));
  if (rank === 0) {
    item.className = "chosen";
    title.append(make("span", {className: "mark"}, "chosen"));
  }
  title.append(make("span", {className: "reward", title: String(reward)}, `${method} ${shortly(reward)}`));
  return item;
}

function badge(score, scale) {
  const share = scale.share(score);
  const made = make("span", {className: `score ${share < 0.5 ? "below" : "above"}`, title: String(score)}, shortly(score));
  made.style.setProperty("--place", `${100 * share}%`);
  made.style.setProperty("--strength", `${200 * Math.abs(share - 0.5)}%`);
  return made;
}

// Whether the server is ready; it is asked until it is.

let ready = false, watching = false;

function showState(text) {
  if (text !== undefined) at("state").textContent = visible(text);
  at("state").className = ready ? "ready" : "";
  for (const button of document.querySelectorAll("button.main")) button.disabled = !ready || underWay !== null;
  at("stop").hidden = underWay === null;
}

async function watch() {
  if (watching) return;
  watching = true;
  do {
    let text = "no answer from the server";
    try {
      const response = await fetch("ready", {cache: "no-store"});
      ready = response.ok;
      text = ready ? "ready" : (await response.json()).error.message;
    } catch {
      ready = false;
    }
    showState(text);
    if (!ready) await new Promise(later => setTimeout(later, 2000));
  } while (!ready);
  watching = false;
}

const EXAMPLE = {
  problem: "A baker bakes 4 trays of 12 rolls. By noon three quarters of the rolls are sold."
    + " The rest goes into bags of 3. How many bags are there?",
  candidates: [
    "Four trays of 12 rolls are 4 * 12 = 48 rolls.\n\nThree quarters of 48 are 36, so 48 - 36 = 12"
      + " rolls are left.\n\nIn bags of 3 that makes 12 / 3 = 4.\n\nThe answer is 4.",
    "Four trays of 12 rolls are 4 * 12 = 48 rolls.\n\nA quarter is sold, which is 12, so 48 - 12 = 36"
      + " rolls are left.\n\nIn bags of 3 that makes 36 / 3 = 12.\n\nThe answer is 12.",
    "Okay, so we need the rolls that are left at noon. First, how many are there? Each tray holds 12,"
      + " and there are 4 trays, so 12 + 12 + 12 + 12 = 48.\n\nThree quarters are sold. A quarter of 48"
      + " is 12, so that is 12 sold.\n\nWait, 12 is what one quarter is. Three quarters are 3 * 12 = 36,"
      + " and what is left is 48 - 36 = 12.\n\nLet me check: 36 + 12 = 48, which fits.\n\nNow bags of 3:"
      + " 12 / 3 = 4, so there are 4 bags.\n\nThe answer is 4.",
  ],
};

function submitted(how) {
  return event => {
    event.preventDefault();
    if (ready) work(how);
  };
}

at("own").addEventListener("submit", submitted(score));
at("ask").addEventListener("submit", submitted(askPolicy));
at("add").addEventListener("click", () => addCandidate().focus());
at("stop").addEventListener("click", () => underWay?.abort());
at("example").addEventListener("click", () => {
  at("problem").value = EXAMPLE.problem;
  at("reference").value = "";
  at("candidates").replaceChildren();
  EXAMPLE.candidates.forEach(addCandidate);
});
for (const radio of document.querySelectorAll("[name=aggregation]")) radio.addEventListener("change", draw);
document.addEventListener("keydown", event => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  (event.target.closest("form") ?? at("own")).requestSubmit();
});
addCandidate();
addCandidate();
watch();

