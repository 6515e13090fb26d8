import { Player } from "./player.js";

const AHEAD = 6; // pairs that are leased at once
const LOADED = 3; // of those so many are downloaded before their turn
const LONGEST = 600; // seconds: who took longer was away
const RETRY = 2000; // milliseconds until what did not get through is tried again

const one = (selector) => document.querySelector(selector);
const make = (tag, text, attributes = {}) => Object.assign(document.createElement(tag), { textContent: text, ...attributes });
const words = (name) => name.replaceAll("_", " ");

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

let session = null;
let queue = []; // entries; the first one is on the screen
let history = []; // entries that were decided, the last one last
const decided = new Set(); // keys whose verdicts may still be on their way
let sending = Promise.resolve();
let unsent = 0;
let filling = false;
let round = 0; // counts changes of the filter

// --- the server ---

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function call(path, body, more = {}) {
  const post = { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json", "x-review": "1" } };
  const response = await fetch(path, body === undefined ? more : { ...post, ...more });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, answer.error || `the server answers ${response.status}`);
  return answer;
}

let fading = null;
function say(text, wrong = false) {
  const message = one("#message");
  message.textContent = text;
  message.classList.toggle("wrong", wrong);
  clearTimeout(fading);
  if (!wrong) fading = setTimeout(() => (message.textContent = ""), 4000);
}

// --- pairs, loaded before their turn ---

class Entry {
  constructor(pair) {
    this.pair = pair;
    this.video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, preload: "auto" });
    this.poster = new Image();
    this.reference = null;
    this.loading = null;
    this.problem = "";
    this.stop = new AbortController();
    this.video.addEventListener("error", () => {
      if (this.video.src.startsWith("blob:")) this.fail("the video cannot be played");
      else if (this.video.src) this.loading = this.download(); // the line broke, or the server says why
    });
  }

  path(kind) {
    return `/media/${this.pair.key}/${kind}`;
  }

  /** Download the whole video, so that nothing is waited for when its turn comes. */
  load() {
    this.pictures();
    this.loading ??= this.download();
    return this.loading;
  }

  async download() {
    for (;;) {
      try {
        const response = await fetch(this.path("video"), { signal: this.stop.signal });
        if (!response.ok) throw new Refused(response.status, (await response.json().catch(() => ({}))).error);
        this.video.src = URL.createObjectURL(await response.blob());
        return;
      } catch (error) {
        if (error.name === "AbortError") return;
        if (error instanceof Refused) {
          this.fail(error.message);
          return;
        }
        await pause(RETRY);
      }
    }
  }

  /** Play what arrives: for a pair that is on the screen before it was loaded. */
  stream() {
    this.pictures();
    this.loading ??= Promise.resolve((this.video.src = this.path("video")));
  }

  pictures() {
    if (this.poster.src) return;
    this.poster.src = this.path("poster");
    if (this.pair.files.includes("reference")) {
      this.reference = new Image();
      this.reference.src = this.path("reference");
    }
  }

  fail(message) {
    this.problem = message;
    if (queue[0] === this) showProblem();
  }

  free() {
    this.stop.abort();
    this.video.pause();
    if (this.video.src.startsWith("blob:")) URL.revokeObjectURL(this.video.src);
    this.video.removeAttribute("src");
    this.video.load();
    this.loading = null;
  }
}

async function fill() {
  if (filling || queue.length >= AHEAD) return;
  filling = true;
  showWaiting();
  const asked = round;
  try {
    const { pairs } = await call("/api/next", { wanted: wanted(), count: AHEAD });
    if (asked !== round) return;
    const known = new Set(queue.map((entry) => entry.pair.key));
    const fresh = pairs.filter((pair) => !known.has(pair.key) && !decided.has(pair.key));
    const empty = queue.length === 0;
    queue.push(...fresh.map((pair) => new Entry(pair)));
    if (empty) show();
    preload();
  } catch (error) {
    say(`${error.message}. Reload the page to try again.`, true);
  } finally {
    filling = false;
    showWaiting();
    if (asked !== round) fill();
  }
}

/** Without a pair on the screen: say whether some are on their way or none is left. */
function showWaiting() {
  const empty = queue.length === 0;
  one("#waiting").hidden = !(empty && filling);
  one("#none").hidden = !empty || filling;
}

let preloading = false;
async function preload() {
  if (preloading) return;
  preloading = true;
  try {
    // One after the other: on a slow line the next pair must not share it with later ones.
    for (;;) {
      const entry = queue.slice(0, LOADED + 1).find((each) => !each.loading);
      if (!entry) break;
      await entry.load();
    }
  } finally {
    preloading = false;
  }
}

// --- the pair on the screen ---

const player = new Player(one("#screen"), changed);

function show() {
  const entry = queue[0];
  one("#review").hidden = !entry;
  showWaiting();
  delete document.body.dataset.shown;
  if (!entry) {
    player.clear();
    return;
  }
  entry.stream();
  entry.since = performance.now();
  const { pair } = entry;
  const { facts } = pair;
  one("#task").textContent = pair.stage === "passed" ? pair.task : `${pair.task}, rejected at ${words(pair.stage)}`;
  one("#instruction").textContent = facts.instruction || "(no instruction)";
  one("#caption").textContent = facts.target_caption || facts.caption || facts.style_caption || "";
  one("#facts").replaceChildren(
    ...Object.entries(facts).flatMap(([name, value]) => [
      make("dt", words(name)),
      make("dd", typeof value === "number" ? String(Number(value.toPrecision(4))) : value),
    ]),
  );
  const links = pair.files.map((kind) => make("a", kind, { href: entry.path(kind), target: "_blank", rel: "noopener" }));
  one("#files").replaceChildren("The files themselves: ", ...links.flatMap((link) => [link, " "]));
  one("#frame").max = pair.frames - 1;
  one("#outline-label").hidden = !pair.panels.includes("mask");
  showProblem();
  player.show(pair, entry.video, entry.poster, entry.reference);
  entry.video.play().catch(() => {});
}

function showProblem() {
  one("#problem").textContent = queue[0]?.problem ? `${queue[0].problem}. Flag the pair (f), or skip it (s).` : "";
  one("#problem").hidden = !queue[0]?.problem;
  showLoading();
}

/** Whether the video of the pair on the screen was seen; while it seeks it may have no picture for a moment. */
const isShown = () => queue.length > 0 && document.body.dataset.shown === queue[0].pair.key;

function showLoading() {
  one("#loading").hidden = isShown() || Boolean(queue[0]?.problem);
}

function changed() {
  if (!player.pair) return;
  if (player.ready) document.body.dataset.shown = player.pair.key;
  showLoading();
  const slider = one("#frame");
  if (!slider.matches(":active")) slider.value = player.frame;
  one("#number").textContent = `${player.frame + 1} / ${player.pair.frames}`;
  const paused = player.video.paused;
  one("#play").textContent = paused ? "\u25b6" : "\u2759\u2759";
  one("#play").setAttribute("aria-label", paused ? "Play" : "Pause");
}

// --- verdicts ---

function decide(verdict, reasons = []) {
  const entry = queue[0];
  if (!entry) {
    say(filling ? "Not counted: the pairs are still loading" : "Not counted: no pair is on the screen");
    return;
  }
  if (!isShown() && !entry.problem) {
    say("Not counted: the video is still loading"); // nobody judges what was not shown
    return;
  }
  const seconds = Math.min(LONGEST, (performance.now() - entry.since) / 1000);
  queue.shift();
  history.push(entry);
  decided.add(entry.pair.key);
  if (history.length > AHEAD) history[history.length - AHEAD - 1].free();
  const text = verdict === "reject" ? `Rejected: ${session.reasons[reasons[0]]}` : `${verdict[0].toUpperCase()}${verdict.slice(1)}`;
  say(text);
  show();
  send({ pair: entry.pair.key, verdict, reasons, seconds }, entry);
  preload();
}

/** Send verdicts in the order in which they were given; one that does not get through is sent again. */
function send(body, entry) {
  unsent += 1;
  showUnsent();
  sending = sending.then(async () => {
    const numbered = { ...body, event: entry.pair.event }; // so that an old one that comes again does not count
    for (;;) {
      try {
        entry.pair.event = (await call("/api/verdicts", numbered)).event;
        break;
      } catch (error) {
        if (error instanceof Refused && error.status < 500) {
          say(`Not kept: ${error.message}`, true);
          history = history.filter((each) => each !== entry);
          break;
        }
        say("The server does not answer; trying again ...", true);
        await pause(RETRY);
      }
    }
    unsent -= 1;
    showUnsent();
    fill();
    progressSoon();
  });
  return sending;
}

function showUnsent() {
  one("#saving").hidden = unsent === 0;
  document.body.dataset.unsent = unsent;
}

function undo() {
  const last = history.pop();
  if (!last) {
    say("Nothing to undo");
    return;
  }
  const entry = last.loading ? last : new Entry(last.pair);
  queue.unshift(entry);
  show();
  say("Taken back");
  send({ pair: entry.pair.key, verdict: "undo" }, entry).then(() => decided.delete(entry.pair.key));
}

function later() {
  if (queue.length < 2) {
    say(filling ? "The next pairs are still loading" : "There is no other pair");
    return;
  }
  queue.push(queue.shift());
  show();
  preload();
}

// --- filter and progress ---

const filters = one("#filters");

function wanted() {
  const { elements } = filters;
  const chosen = Object.fromEntries(["track", "task", "variant", "status"].map((name) => [name, elements[name].value || null]));
  const boxes = Object.fromEntries(["flagged", "compared"].map((name) => [name, elements[name].checked]));
  return { ...chosen, ...boxes, order: elements.order.value, seed: elements.seed.valueAsNumber || 0 };
}

function showFilters() {
  for (const [name, counts] of Object.entries(session.filters)) {
    const select = filters.elements[name];
    const label = (value) => (name === "status" && value !== "passed" ? `rejected at ${words(value)}` : value || "none");
    const options = Object.entries(counts).map(([value, n]) => make("option", `${label(value)} (${n})`, { value }));
    select.replaceChildren(make("option", "all", { value: "" }), ...options);
    if (name === "status" && counts.passed) select.value = "passed";
  }
}

function refill() {
  round += 1;
  const left = queue;
  queue = [];
  for (const entry of left) entry.free();
  show();
  const keys = left.map((entry) => entry.pair.key);
  call("/api/release", { pairs: keys }).finally(fill);
}

let progressTimer = null;
function progressSoon() {
  progressTimer ??= setTimeout(() => {
    progressTimer = null;
    showProgress().catch(() => {});
  }, 1000);
}

function table(element, head, rows) {
  const line = (cells, tag) => {
    const row = document.createElement("tr");
    row.append(...cells.map((cell) => make(tag, cell)));
    return row;
  };
  element.replaceChildren(line(head, "th"), ...rows.map((row) => line(row, "td")));
  if (!rows.length) element.replaceChildren(line(["none yet"], "td"));
}

async function showProgress() {
  const found = await call("/api/progress");
  const mine = found.reviewers[session.reviewer];
  const rate = (counts) => (counts.per_hour ? `${Math.round(counts.per_hour)} an hour` : "");
  const total = (counts) => counts.accept + counts.reject + counts.skip + counts.flag;
  one("#count").textContent = `${found.reviewed} of ${found.pairs} pairs`;
  one("#bar span").style.width = `${(100 * found.reviewed) / Math.max(1, found.pairs)}%`;
  one("#mine").textContent = mine ? `you: ${total(mine)}, ${rate(mine)}` : "";
  table(
    one("#reviewers"),
    ["reviewer", "verdicts", "accepted", "rejected", "skipped", "flagged", "rate"],
    Object.entries(found.reviewers).map(([name, c]) => [name, total(c), c.accept, c.reject, c.skip, c.flag, rate(c)]),
  );
  table(
    one("#agreement"),
    ["reviewers", "pairs", "same verdict", "Cohen's kappa"],
    found.agreement.map((a) => [
      a.reviewers.join(", "),
      a.pairs,
      `${Math.round(100 * a.same)} %`,
      a.kappa === null ? "undefined" : a.kappa.toFixed(2),
    ]),
  );
}

// --- keys and buttons ---

const setView = (view) => {
  one(`input[name=view][value=${view}]`).checked = true;
  player.view = view;
  one("#border").hidden = view !== "wipe";
  player.layout();
};
const toggleView = (view) => setView(player.view === view ? "side" : view);
const setOutline = (on) => {
  if (player.pair && !player.pair.panels.includes("mask")) {
    say("This pair has no mask");
    return;
  }
  one("#outline").checked = player.outline = on;
  player.draw();
};
const setLoop = (on) => {
  one("#loop").checked = player.loop = on;
  player.apply();
};
const faster = (by) => {
  player.faster(by);
  one("#speed").value = String(player.speed);
};
const nextZoom = () => {
  player.nextZoom();
  player.layout();
};
const setBlink = (on) => {
  player.blink = on;
  player.layout();
};

const KEYS = {
  a: () => decide("accept"),
  s: () => decide("skip"),
  f: () => decide("flag"),
  u: undo,
  n: later,
  " ": () => player.toggle(),
  ArrowLeft: (event) => player.step(event.shiftKey ? -8 : -1),
  ArrowRight: (event) => player.step(event.shiftKey ? 8 : 1),
  ArrowUp: () => faster(1),
  ArrowDown: () => faster(-1),
  l: () => setLoop(!player.loop),
  w: () => toggleView("wipe"),
  d: () => toggleView("difference"),
  m: () => setOutline(!player.outline),
  b: () => setBlink(true),
  z: nextZoom,
  i: () => (one("#more").open = !one("#more").open),
  "?": () => one("#help").showModal(),
};

const PICTURE_KEYS = [" ", "ArrowLeft", "ArrowRight", "w", "d", "m", "b", "z"]; // of no use before there is a picture

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("select, input:not([type=range], [type=radio], [type=checkbox])");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const reason = Object.keys(session?.reasons ?? {})[Number(event.key) - 1];
  const action = reason ? () => decide("reject", [reason]) : KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  if (event.repeat && !event.key.startsWith("Arrow")) return; // a key that is held down decides once
  if (PICTURE_KEYS.includes(event.key) && player.pair && !isShown()) {
    say("The video is still loading");
    return;
  }
  action(event);
});
document.addEventListener("keyup", (event) => {
  if (event.key === "b") setBlink(false);
});

for (const button of document.querySelectorAll("button[data-verdict]")) {
  button.addEventListener("click", () => decide(button.dataset.verdict));
}
one("#undo").addEventListener("click", undo);
one("#next").addEventListener("click", later);
one("#play").addEventListener("click", () => player.toggle());
one("#frame").addEventListener("input", (event) => player.seek(event.target.valueAsNumber));
one("#border").addEventListener("input", (event) => {
  player.border = event.target.valueAsNumber / 100;
  player.draw();
});
one("#speed").addEventListener("change", (event) => {
  player.speed = Number(event.target.value);
  player.apply();
  event.target.blur();
});
one("#loop").addEventListener("change", (event) => setLoop(event.target.checked));
one("#outline").addEventListener("change", (event) => setOutline(event.target.checked));
one("#zoom").addEventListener("click", nextZoom);
for (const radio of document.querySelectorAll("input[name=view]")) radio.addEventListener("change", () => setView(radio.value));
one("#open-help").addEventListener("click", () => one("#help").showModal());
one("#open-progress").addEventListener("click", () => {
  one("#progress").showModal();
  showProgress().catch((error) => say(error.message, true));
});
one("#open-filters").addEventListener("click", (event) => {
  filters.hidden = !filters.hidden;
  event.currentTarget.setAttribute("aria-expanded", String(!filters.hidden));
});
filters.addEventListener("change", (event) => {
  event.target.blur();
  refill();
});
filters.addEventListener("submit", (event) => event.preventDefault());
one("#again").addEventListener("click", fill);
for (const dialog of document.querySelectorAll("#help, #progress")) {
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}
addEventListener("beforeunload", (event) => unsent && event.preventDefault());
addEventListener("pagehide", () => {
  const keys = queue.map((entry) => entry.pair.key);
  if (keys.length) call("/api/release", { pairs: keys }, { keepalive: true }).catch(() => {});
});

// --- begin ---

async function begin() {
  session = await call("/api/session");
  document.title = `Review ${session.run}`;
  one("#run").textContent = session.run;
  const buttons = Object.entries(session.reasons).map(([name, text], place) => {
    const button = make("button", "", { type: "button" });
    button.append(make("kbd", String(place + 1)), ` ${text}`);
    button.addEventListener("click", () => decide("reject", [name]));
    return button;
  });
  one("#reasons").replaceChildren(...buttons);
  showFilters();
  if (!session.reviewer) await login();
  await Promise.all([fill(), showProgress()]);
}

function login() {
  const dialog = one("#login");
  const form = dialog.querySelector("form");
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  dialog.showModal();
  return new Promise((done) => {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      try {
        ({ reviewer: session.reviewer } = await call("/api/login", { reviewer: form.elements.reviewer.value.trim() }));
        dialog.close();
        done();
      } catch (error) {
        form.querySelector(".wrong").textContent = error.message;
      }
    });
  });
}

begin().catch((error) => {
  one("#waiting").hidden = true;
  say(error.message, true);
});
