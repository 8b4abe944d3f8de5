// The status page: it shows what the daemon tells, and changes nothing. What comes from the cluster goes in as text,
// never as markup. The page may be older than the daemon: what is missing shows as nothing, what is new is passed over.

const RETRY_FIRST = 1_000;
const RETRY_MOST = 10_000;
/** Three times the 15 s after which the daemon says that it is still there. */
const SILENCE = 45_000;
/** A plan in which no step ends for so long deserves a look. */
const PATIENCE = 60_000;
const OPEN = "open the page with `trainerd status --web`";
const REVISIONS_SHOWN = 5;
/** The daemon lists TrainJobs only when somebody asks. */
const ASK_TRAINJOBS = 10_000;
const VALUE_SHOWN = 72;

const byId = (id) => document.getElementById(id);
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// ---- Nodes ----

function h(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value) node.setAttribute(name, value);
  }
  // Strings become text nodes.
  node.append(...children.filter(Boolean));
  return node;
}

/** Text in which `words between backticks` are commands or names. */
const rich = (text) => text.split("`").map((part, index) => (index % 2 ? h("code", null, part) : part));

function setText(node, text) {
  // Writing the same again would undo a reader's selection.
  if (node.source === text) return;
  node.source = text;
  node.replaceChildren(...rich(text));
}

/** A node whose text changes as time goes by: `tick` writes it. */
function ticking(tag, attributes, text) {
  const node = h(tag, { ...attributes, "data-ticks": "1" });
  node.tick = () => setText(node, text());
  return node;
}

// ---- Time ----

/** A time in its two largest units. */
function span(millis) {
  const [seconds, minutes, hours, days] = [1, 60, 3600, 86_400].map((unit) => Math.floor(millis / 1000 / unit));
  const two = (large, small) => large + (parseInt(small, 10) ? ` ${small}` : "");
  if (days > 0) return two(`${days} d`, `${hours % 24} h`);
  if (hours > 0) return two(`${hours} h`, `${minutes % 60} min`);
  return minutes > 0 ? two(`${minutes} min`, `${seconds % 60} s`) : `${Math.max(seconds, 0)} s`;
}

const since = (moment) => span(Date.now() - moment);
const ago = (moment) => (Date.now() - moment < 5_000 ? "just now" : `${since(moment)} ago`);

/** A moment in a given form; nothing where there is none. */
function when(text, options) {
  const moment = Date.parse(text);
  return moment ? new Intl.DateTimeFormat("en-GB", options).format(moment) : "";
}

function timeAgo(text, before = "") {
  const title = when(text, { dateStyle: "long", timeStyle: "long" });
  return title && ticking("time", { datetime: text, title }, () => before + ago(Date.parse(text)));
}

// ---- What is known ----

let view = null;
/** What only events tell of the plan that runs. */
let live = {};
/** What was last told of TrainJobs, or why there is nothing to tell. */
let trainJobs = null;
/** When each wait, and the last step that ended, was first seen; `exact` if the page saw it begin. */
const waits = new Map();
let steps = null;
const link = { state: "connecting", seen: 0, next: 0, why: "" };

const forget = () => {
  live = { retries: new Map() };
};
const nameOf = ({ kind, namespace, name }) => `${kind} ${namespace ? `${namespace}/` : ""}${name}`;
const waitKey = (object) => (object ? nameOf(object) : "");
const waitingObjects = () => (view.outlook?.objects ?? []).filter((entry) => entry.waiting);
const runningPlan = () => (view.plan?.ended ? null : view.plan);
const counted = (field) =>
  Object.values(view.outlook?.components ?? {}).reduce((sum, component) => sum + (component[field] ?? 0), 0);

/** Notes since when things wait: of what is there at first, nobody can say. */
function remember(isFirst) {
  const found = { at: Date.now(), exact: !isFirst };
  const plan = runningPlan();
  const keys = new Set([
    ...waitingObjects().map((entry) => waitKey(entry.object)),
  ]);
  for (const key of waits.keys()) if (!keys.has(key)) waits.delete(key);
  for (const key of keys) if (!waits.has(key)) waits.set(key, found);
  if (steps?.started !== plan?.started || steps?.done !== plan?.done) {
    steps = plan && { ...found, started: plan.started, done: plan.done };
  }
}

function takeProgress({ event, object, error }) {
  const name = object ? nameOf(object) : "";
  live.retries.delete(name);
  if (event === "retrying") live.retries.set(name, error);
  else if (event === "planned") forget();
  if (view) draw();
}

// ---- The headline ----

const DOING = {
  install: ["Installing", ""],
  upgrade: ["Upgrading", "to "],
  rollback: ["Rolling back", "to "],
  remove: ["Removing", ""],
};
const PROBLEMS = {
  refused: ["bad", "Refused"],
  failed: ["bad", "Failed"],
  invalid: ["bad", "Invalid options"],
  held: ["care", "Not the writer"],
  degraded: ["care", "Degraded"],
  disconnected: ["care", "Disconnected"],
};
const MARKS = { good: "✓", busy: "↻", care: "!", bad: "×", idle: "…" };

/** Phases in which nothing happens. */
const QUIET = {
  standby: ["On standby", "Another daemon is active; this one only observes."],
  absent: ["Nothing is installed", "No options are declared."],
  starting: ["Starting", "Not everything in the cluster has been observed yet."],
};

/** One sentence, what else to know, and what is read aloud where that is less. */
function headline() {
  const { phase = "starting", outlook } = view;
  if (phase === "running") return running();
  if (phase === "waiting") return notReady();
  if (phase === "paused") return paused(view.paused);
  if (phase === "ready") {
    return { tone: "good", text: `Ready at revision ${outlook?.revision}`, lead: readyLead() };
  }
  const [text, lead] = QUIET[phase] ?? [];
  return text ? { tone: "idle", text, lead } : problem();
}

function paused(note) {
  const { what, by, askedBy, since } = note ?? {};
  const time = when(since, { day: "numeric", month: "long", hour: "2-digit", minute: "2-digit" });
  return { tone: "idle", mark: "‖", text: `Paused by ${askedBy ?? by} since ${time}${what ? `: ${what}` : ""}`, lead: "Nothing is changed until `trainerd resume`; the installation is still observed." };
}

function readyLead() {
  const drift = view.outlook?.drift?.length;
  if (!drift) return `All ${counted("total")} objects match the options.`;
  return `Others changed ${plural(drift, "object")}; see below for what is done about it.`;
}

function notReady() {
  const [first, ...others] = waitingObjects();
  const lead = `${counted("ready")} of ${plural(counted("total"), "object")} are ready.`;
  if (!first) return { tone: "care", text: "Not ready", lead };
  const { kind, name } = first.object;
  const more = others.length ? ` ${plural(others.length, "other object")} also not.` : "";
  return { tone: "care", text: `Not ready: ${kind} ${name}, ${first.waiting.split("; ")[0]}`, lead: lead + more };
}

/** What a plan does. One that failed is undone under the purpose it had. */
function doing({ purpose, revision, back }) {
  const [verb, to] = back ? ["Going back", "to "] : (DOING[purpose] ?? ["Changing", "to "]);
  return { words: revision ? `${verb} ${to}revision ${revision}` : verb, back };
}

function running() {
  const plan = runningPlan();
  if (!plan) return { tone: "busy", text: "Planning", lead: view.reason?.message ?? "" };
  const { words, back } = doing(plan);
  const stalled = Date.now() - steps.at >= PATIENCE;
  const silence = stalled ? `No step has ended for ${steps.exact ? "" : "over "}${since(steps.at)}. ` : "";
  return {
    tone: stalled || back ? "care" : "busy",
    text: `${words}: ${plan.done} of ${plan.total}`,
    lead: silence + (back ? `${back.reason}.` : nowDoing(plan)),
    said: words,
  };
}

function nowDoing(plan) {
  const [wait, ...others] = plan.waiting ?? [];
  if (!wait) return kinds(plan);
  return `Waiting for ${waitText(wait).split("; ")[0]}${others.length ? `, and ${plural(others.length, "other")}` : ""}.`;
}

function kinds({ counts = {} }) {
  const kinds = { create: "to create", change: "to change", delete: "to delete", keep: "unchanged" };
  const some = Object.keys(kinds).filter((kind) => counts[kind]).map((kind) => `${counts[kind]} ${kinds[kind]}`);
  return `${some.join(", ") || "Nothing to change"}.`;
}

function problem() {
  const { phase, reason } = view;
  const { message = "", causes = [] } = reason ?? {};
  const [tone, word] = PROBLEMS[phase] ?? ["care", capital(phase)];
  // One refusal is the news itself; of several, the message says that they are several.
  const what = phase === "refused" && causes.length === 1 ? causes[0] : message;
  const isSaid = what.toLowerCase().includes(word.toLowerCase());
  const text = isSaid ? capital(what) : [word, what].filter(Boolean).join(": ");
  return { tone, text, lead: phase === "disconnected" ? "The information below is from before." : "" };
}

/** Before the first view: why there is none. */
function withoutView({ state, why }) {
  if (state === "denied") return { tone: "bad", text: "Access denied", lead: `${why}: ${OPEN}.` };
  const text = state === "lost" ? "The daemon does not respond" : "Connecting";
  return { tone: "idle", text, lead: why };
}

function drawHead() {
  const { tone, text, lead, mark, said } = view ? headline() : withoutView(link);
  const stale = view !== null && link.state !== "live";
  const place = view ? `${view.name} in ${view.namespace}` : "trainerd";
  setText(byId("place"), stale ? `Last known of ${place}` : place);
  setText(byId("headline"), text);
  setText(byId("lead"), lead);
  setText(byId("mark"), stale ? "?" : (mark ?? MARKS[tone]));
  setText(byId("said"), stale ? "Connection lost" : (said ?? text));
  document.title = stale ? `(not current) ${text}` : text;
  document.body.dataset.tone = stale ? "idle" : tone;
  document.body.classList.toggle("stale", stale || view?.phase === "disconnected");
  drawLink();
}

// ---- Sections ----

/** Draws a part again only when what it shows has changed. */
function part(id, facts, make) {
  const node = byId(id);
  const key = JSON.stringify(facts) ?? "";
  if (node.facts === key) return;
  node.facts = key;
  const content = make().filter(Boolean);
  node.hidden = content.length === 0;
  (node.querySelector("h2 + div") ?? node).replaceChildren(...content);
}

function draw() {
  const { phase, reason, plan, outlook, revisions, hosted, ...rest } = view;
  drawHead();
  byId("all").hidden = !outlook && !plan && !revisions?.length;
  part("problem", [phase, reason], problemPart);
  part("plan", [plan, [...live.retries]], planPart);
  part("waiting", [outlook?.objects, plan], waitingPart);
  part("hosted", hosted, hostedPart);
  part("drift", [outlook?.drift], driftPart);
  part("training", [trainJobs], trainingPart);
  part("components", [outlook?.components], componentsPart);
  part("revisions", [revisions, outlook?.revision, runningPlan()?.revision], revisionsPart);
  part("about", rest, aboutPart);
  tick();
}

function tick() {
  for (const node of document.querySelectorAll("[data-ticks]")) node.tick();
}

const text = (words, quiet) => h("p", quiet && { class: "quiet" }, ...rich(words));
const list = (name, entries) => entries.length > 0 && h("ul", { class: name }, ...entries);
const note = (tone, what, why) =>
  h("div", { class: "note", "data-tone": tone }, h("p", { class: "tag" }, what), text(why));

function problemPart() {
  const { causes = [], hint } = view.reason ?? {};
  const untold = causes.filter((cause) => !byId("headline").textContent.includes(cause.slice(1)));
  return [...untold.map((cause) => text(cause)), hint && text(`What to do: ${hint}`)];
}

/** An object, spelled as everywhere, its own name standing out. */
function titled(object) {
  if (!object) return h("h3", null, "The plan as a whole");
  const place = nameOf({ ...object, name: "" });
  return h("h3", null, h("span", null, place), object.name);
}

const row = (left, right) => h("div", { class: "row" }, left, right);

function planPart() {
  const { plan } = view;
  if (!plan) return [];
  const { words, back } = doing(plan);
  const failure = plan.error && note("bad", "It failed", plan.error);
  const count = `${plan.done} of ${plan.total} steps`;
  if (plan.ended) {
    const took = span(Date.parse(plan.ended) - Date.parse(plan.started));
    return [row(text(`${words}: ${plan.error ? "failed" : "done"}, ${count} in ${took}.`), timeAgo(plan.ended)), failure];
  }
  const waiting = plan.waiting ?? [];
  return [
    row(h("p", { class: "total" }, count), timeAgo(plan.started, "began ")),
    bar(plan.done, plan.total, `${words}: ${count}`),
    text(kinds(plan), true),
    list("entries waits", waiting.map(planWait)),
    ...[...live.retries].map(([name, error]) => note("care", "Retrying", `${name}: ${error}`)),
    back && note("care", words, back.reason),
    failure,
  ];
}

const bar = (done, total, label) => h("progress", { max: total || 1, value: String(total ? done : 1), "aria-label": label });
const waitText = (wait) => wait.text ?? wait.reason ?? "";

function planWait(wait) {
  const { object } = wait;
  const [, own] = object ? waitText(wait).split(`${nameOf(object)}: `) : [];
  const began = { at: Date.parse(wait.since), exact: Boolean(wait.since) };
  return waitEntry(object, own ?? `waiting for ${waitText(wait)}`, began);
}

function waitEntry(object, words, { at, exact }) {
  // Of what was there before the page was, nothing can be said at first.
  const time = () => (exact ? `for ${since(at)}` : Date.now() - at > 5_000 ? `for over ${since(at)}` : "");
  // What a pod says comes after a semicolon, and ends the search: it has a line of its own.
  return h("li", null, row(titled(object), ticking("time", null, time)), ...words.split("; ").map((line) => text(line)));
}

function waitingPart() {
  if (!view.outlook) return [];
  const plan = runningPlan();
  const told = (plan?.waiting ?? []).map(({ object }) => waitKey(object));
  const objects = waitingObjects().filter(({ object }) => !told.includes(waitKey(object)));
  const entries = objects.map(({ object, waiting }) => waitEntry(object, waiting, waits.get(waitKey(object))));
  return [list("entries", entries) || (!plan && text("No object is waiting.", true))];
}

// ---- What the daemon runs itself ----

function hostedPart() {
  const entries = (view.hosted ?? []).map(hostedEntry);
  return entries.length > 0 ? [list("entries", entries)] : [];
}

function hostedEntry({ name, state, since, ready, wanted, waiting, restarts, nextTry, failure }) {
  const { message, at, log = [] } = failure ?? {};
  const next = () => `Restarts in ${span(Date.parse(nextTry) - Date.now() + 999)}.`;
  return h("li", { "data-tone": ready ? "good" : wanted ? "bad" : "idle" },
    row(h("h3", null, name), h("span", { class: "tag" }, ready ? "ready" : state)),
    row(text([waiting && `waiting for ${waiting}`, plural(restarts, "restart")].filter(Boolean).join(", "), true), timeAgo(since, "since ")),
    nextTry && ticking("p", null, next),
    failure && row(text(capital(message)), timeAgo(at)),
    !ready && list("fields", log.map((line) => h("li", null, h("code", null, line)))));
}

// ---- What others changed ----

const LEFT = {
  Reported: () => "It is reported only, as the drift policy says.",
  Yielded: ({ path, manager }) => `\`${path}\` is left to ${manager}, as \`conflicts=yield\` says.`,
  Refused: ({ path, manager }) =>
    `\`${path}\` was applied by ${manager} and is not overwritten. \`conflicts=force\` takes it, \`conflicts=yield\` leaves it to ${manager}.`,
  Admission: ({ path }) => `\`${path}\` is changed by admission control in every write.`,
  Immutable: ({ path }) => `\`${path}\` cannot be changed back: the object would have to be created again.`,
  Foreign: ({ owner }) => `It was replaced by an object of ${owner}.`,
};
const STATES = {
  repairing: ["busy", "being repaired", () => "It is about to be repaired."],
  waiting: ["care", "not repaired yet", ({ why }) => `Another process holds the lease: ${why}.`],
  paused: ["idle", "paused", () => "It is repaired after `trainerd resume`."],
  left: ["care", "left as it is", ({ why }) => LEFT[why?.reason]?.(why) ?? ""],
  contended: ["care", "contended", ({ path, manager, seconds = 0 }) =>
    `${manager} changes \`${path}\` back repeatedly. It is not repaired for up to ${span(seconds * 1000)}, and then once more.`],
  failed: ["bad", "failed", ({ error }) => `The repair was refused: ${error}. It is retried.`],
};

function driftPart() {
  const drift = view.outlook?.drift;
  if (!drift) return [];
  return [list("entries", drift.map(driftEntry)) || text("Everything is as trainerd applied it.", true)];
}

function driftEntry(entry) {
  const [tone, word, words] = STATES[entry.state] ?? ["care", entry.state, () => ""];
  const { changes = [], by = [] } = entry;
  const isThere = changes.length || entry.why?.reason === "Foreign";
  const who = by.length ? `Changed by ${by.join(", ")}. ` : "";
  return h("li", { "data-tone": tone },
    row(titled(entry.object), h("span", { class: "tag" }, word)),
    text((isThere ? who : "It no longer exists. ") + words(entry)),
    list("fields", changes.map(fieldChange)));
}

function fieldChange({ path, from, to }) {
  const [is, should] = [words(from), words(to)];
  let same = 0;
  while (same < is.length && is[same] === should[same]) same += 1;
  return h("li", null, h("code", null, path), h("p", { class: "quiet" }, "is ", excerpt(is, same), ", should be ", excerpt(should, same)));
}

function words(json) {
  if (json === undefined || json === null) return "not set";
  return typeof json === "string" ? json || "empty" : JSON.stringify(json);
}

/** The part of a value that tells it from the other one: up to `same`, both are the same. */
function excerpt(value, same) {
  if (value.length <= VALUE_SHOWN) return h("b", null, value);
  const from = Math.max(0, same - 20);
  const shown = value.slice(from, from + VALUE_SHOWN);
  return h("b", { title: value.slice(0, 1000) }, (from ? "…" : "") + shown + (value.endsWith(shown) ? "" : "…"));
}

// ---- TrainJobs ----

/** What somebody has to look at first comes first. */
const JOB_TONES = { failing: "bad", waiting: "care", failed: "bad", suspended: "idle", running: "busy", complete: "good" };

function trainingPart() {
  const { count = {}, unfinished = [], message } = trainJobs ?? {};
  if (message) return [text(message, true)];
  const phases = Object.keys(JOB_TONES).filter((phase) => count[phase]);
  const counts = phases.map((phase) => `${count[phase]} ${phase}`);
  const all = phases.reduce((sum, phase) => sum + count[phase], 0);
  const more = all - (count.complete ?? 0) - unfinished.length;
  return [
    counts.length && text(counts.join(", "), true),
    list("entries", unfinished.map(jobEntry)),
    more > 0 && text(`${more} more: \`trainerd trainjob list\` shows them.`, true),
  ];
}

function jobEntry({ namespace, name, phase, podsReady, pods, restarts, progress, remainingSeconds, since: began, why }) {
  const done = progress === undefined ? "" : `${progress} %`;
  const again = restarts ? `, ${plural(restarts, "restart")}` : "";
  const left = remainingSeconds ? `, ${span(remainingSeconds * 1000)} left` : "";
  return h("li", { "data-tone": JOB_TONES[phase] ?? "idle" },
    row(titled({ kind: "TrainJob", namespace, name }), h("span", { class: "tag" }, phase)),
    row(text(`${podsReady} of ${plural(pods, "pod")} ready${again}`, true), began && ticking("time", null, () => `for ${since(Date.parse(began))}`)),
    done && bar(progress, 100, `${name}: ${done}`),
    done && text(done + left, true),
    ...(why ?? "").split("; ").map((line) => line && text(line)));
}

async function askTrainJobs() {
  if (document.hidden || link.state !== "live" || !view?.outlook) return;
  try {
    const response = await fetch("v1/trainjobs", { headers: credentials(), cache: "no-store" });
    trainJobs = await response.json();
  } catch {
    // The connection is lost: the headline says so.
  }
  if (view) draw();
}

// ---- Components, revisions, the rest ----

function componentsPart() {
  const rows = Object.entries(view.outlook?.components ?? {}).map(componentRow);
  const head = ["Component", "Version", "Ready"].map((name) => h("th", { scope: "col" }, name));
  return [rows.length && h("table", null, h("thead", null, h("tr", null, ...head)), h("tbody", null, ...rows))];
}

function componentRow([name, { version, ready = 0, total = 0 }]) {
  const progress = bar(ready, total, `${name}: ${ready} of ${total} ready`);
  return h("tr", null,
    h("th", { scope: "row" }, name),
    h("td", null, version),
    h("td", null, h("div", { "data-tone": ready < total ? "care" : "good" }, progress, h("span", null, `${ready}/${total}`))));
}

function revisionsPart() {
  const revisions = view.revisions ?? [];
  const entries = revisions.map((revision, index) => revisionEntry(revision, revisions[index + 1]?.versions));
  const more = entries.length - REVISIONS_SHOWN;
  return [
    list("entries", entries.slice(0, REVISIONS_SHOWN)),
    more > 0 && text(`${more} earlier: \`trainerd history\` lists them.`, true),
  ];
}

/** `before`: the versions of the revision before it; what is new is marked. */
function revisionEntry({ number, created, by, askedBy, purpose, versions = {}, outcome }, before) {
  const isCurrent = number === view.outlook?.revision;
  const came = number === runningPlan()?.revision ? "in progress" : outcome;
  const entries = Object.entries(versions).map(([name, version]) =>
    h("li", before && before[name] !== version && { class: "new" }, `${name} ${version}`));
  return h("li", isCurrent && { "aria-current": "true" },
    row(h("h3", null, `Revision ${number}`, isCurrent && h("span", { class: "current" }, "current")), timeAgo(created)),
    h("p", { title: by && `by ${askedBy ? `${askedBy}, over the API of ${by}` : by}` }, [purpose, came].filter(Boolean).join(", ")),
    list("versions", entries));
}

function aboutPart() {
  const { source, generation, version, lease, troubles = [] } = view;
  const fact = (name, what) => what && h("div", null, h("dt", null, `${name} `), h("dd", null, what));
  return [h("dl", null,
    fact("Options from", source),
    fact("Generation", generation?.slice(0, 12)),
    fact("Daemon", version),
    fact("Lease", lease ? "held" : "not held"),
    ...troubles.map(([kind, why]) => fact(`Watch of ${kind} interrupted:`, why)))];
}

// ---- The connection ----

let token = null;
let hangUp = () => {};

/** The token leaves the address at once: an address is what people copy, and what histories keep. */
function takeToken() {
  const found = /[#&]token=([^&]*)/.exec(location.hash);
  if (found) history.replaceState(null, "", location.pathname);
  try {
    if (found) token = decodeURIComponent(found[1]);
    // For a reload of this tab; it is gone with the tab.
    if (found) sessionStorage.setItem("token", token);
    else token = sessionStorage.getItem("token");
  } catch {
    // Without storage the token lasts until a reload.
  }
}

/** The events of a stream, between empty lines. The daemon's lines end with a line feed alone. */
async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value: piece } = await reader.read();
    if (done) return;
    link.seen = Date.now();
    const frames = (rest + piece).split("\n\n");
    rest = frames.pop();
    for (const frame of frames) {
      const field = (name) => new RegExp(`^${name}: ?(.*)$`, "m").exec(frame)?.[1];
      if (field("data")) yield [field("event"), JSON.parse(field("data"))];
    }
  }
}

const credentials = () => (token ? { Authorization: `Bearer ${token}` } : {});

/** Follows the daemon until the connection ends; throws where there was none. */
async function follow(onView) {
  const control = new AbortController();
  hangUp = () => control.abort();
  // EventSource cannot send a token, hence fetch.
  const response = await fetch("v1/events", { headers: credentials(), cache: "no-store", signal: control.signal });
  if (!response.ok) throw await refusal(response);
  forget();
  let isFirst = true;
  for await (const [name, data] of eventsOf(response.body)) {
    if (name === "progress") takeProgress(data);
    // What was missed may have ended a retry.
    if (name === "lagged") forget(live.back);
    if (name !== "view") continue;
    Object.assign(link, { state: "live", why: "" });
    onView();
    view = data;
    remember(isFirst);
    if (isFirst) askTrainJobs();
    isFirst = false;
    draw();
  }
}

async function refusal(response) {
  const { message = `the daemon responded with ${response.status}` } = await response.json().catch(() => ({}));
  const state = [401, 403].includes(response.status) ? "denied" : "lost";
  return Object.assign(new Error(message), { state, why: capital(message) });
}

async function keepFollowing() {
  let wait = RETRY_FIRST;
  // With the same token the daemon gives the same answer.
  while (link.state !== "denied") {
    try {
      await follow(() => { wait = RETRY_FIRST; });
      link.state = "lost";
    } catch (error) {
      // What a browser itself says of a lost connection helps nobody.
      Object.assign(link, { state: error.state ?? "lost", why: error.why ?? "" });
    }
    link.next = Date.now() + wait;
    drawHead();
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(wait * 2, RETRY_MOST);
  }
}

function drawLink() {
  const isDenied = link.state === "denied";
  byId("link").hidden = isDenied ? !view : link.state !== "lost";
  const seen = link.seen ? `last seen ${ago(link.seen)}` : "the daemon has not been seen yet";
  const again = `retrying${link.next > Date.now() ? ` in ${span(link.next - Date.now() + 999)}` : ""}`;
  setText(byId("link"), isDenied ? `Access is no longer allowed, ${seen}; ${OPEN}.` : `Connection lost, ${seen}; ${again}.`);
}

function everySecond() {
  // Phones sleep and move: a connection can be dead for long before the network says so.
  if (link.state === "live" && Date.now() - link.seen > SILENCE) hangUp();
  drawHead();
  tick();
}

// A page kept for the way back must not keep one of the six connections that browsers make to one host.
addEventListener("pagehide", () => hangUp());
// Opened again in the same tab, with another token.
addEventListener("hashchange", () => location.reload());
takeToken();
setInterval(everySecond, 1_000);
setInterval(askTrainJobs, ASK_TRAINJOBS);
keepFollowing();
