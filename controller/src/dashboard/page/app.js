// Which view is shown, and when it is drawn again; and who asks, where that matters.

import { forget, views } from "./views.js";

const main = document.getElementById("main");
const state = document.getElementById("state");
const now = document.getElementById("now");
const pause = document.getElementById("pause");
const gate = document.getElementById("sign-in");
const why = document.getElementById("sign-in-why");
const field = document.getElementById("token");
const leave = document.getElementById("leave");

let timer = 0;
let isPaused = false;
/** Draws what was told last once more. */
let redraw = () => {};
/** Rises with each view that is chosen: an answer for an older one is not drawn. */
let turn = 0;

/** By what the API server knows who looks. It is no cookie: no other page's requests have it. */
let token = "";

/** Why the API tells nothing. */
class Trouble extends Error {}
/** What it does not tell this reader. */
class Refusal extends Trouble {}

/** Says how things are. A screen reader says what is new of it; what differs at each look is beside it. */
function say(words, kind = "", beside = "") {
  if (state.textContent !== words) state.textContent = words;
  state.className = kind;
  now.textContent = beside;
}

/** What an address of the API tells. */
async function ask(path) {
  let answer, text;
  try {
    answer = await fetch(path, token ? { headers: { authorization: `Bearer ${token}` } } : {});
    text = await answer.text();
  } catch {
    throw new Trouble("meltemi dashboard does not answer: it has ended, or the network is gone");
  }
  if (answer.ok) return JSON.parse(text);
  const message = text.trim() || `status ${answer.status}`;
  throw [401, 403].includes(answer.status) ? new Refusal(message) : new Trouble(message);
}

/** Asks who looks, in place of a view. */
function askForToken(message) {
  turn += 1;
  clearTimeout(timer);
  token = "";
  why.textContent = message;
  field.setAttribute("aria-invalid", String(message !== ""));
  main.replaceChildren();
  main.hidden = true;
  leave.hidden = true;
  gate.hidden = false;
  say("");
  field.focus();
}

/** Shows the view to who has signed in. */
function letIn() {
  gate.hidden = true;
  why.textContent = "";
  main.hidden = false;
  leave.hidden = false;
  main.focus();
}

/** The view that the address names, and what it is of; the first one where it names none. */
function chosen() {
  const [, name = "", of] = /^#\/([^/]*)(?:\/(.+))?$/.exec(location.hash) ?? [];
  const key = of == null ? name : `${name}/`;
  try {
    if (Object.hasOwn(views, key)) return { view: views[key], of: of && decodeURIComponent(of), name };
  } catch {
    // Not an address that this page makes.
  }
  return { view: views[""], name: "" };
}

/** Puts what was drawn in place of what was there. What has not changed stays, and with it focus, what is typed, and the place of a reader. */
function put(drawn) {
  const focused = document.activeElement;
  const scroll = scrollY;
  const fresh = main.cloneNode(false);
  fresh.append(...drawn);
  morph(main, fresh);
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
  scrollTo(0, scroll);
}

/** Makes a node like another of the same kind, whose children it may take. */
function morph(node, fresh) {
  if (node.nodeType === Node.TEXT_NODE) {
    if (node.data !== fresh.data) node.data = fresh.data;
    return;
  }
  for (const { name } of [...node.attributes]) if (!fresh.hasAttribute(name)) node.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  const keyed = new Map([...node.children].filter((child) => child.dataset.key).map((child) => [child.dataset.key, child]));
  let at = node.firstChild;
  for (const child of [...fresh.childNodes]) {
    const key = child.dataset?.key;
    const same = key ? keyed.get(key) : at;
    keyed.delete(key);
    if (same?.nodeName !== child.nodeName || same?.dataset?.key !== key) {
      node.insertBefore(child, at);
      continue;
    }
    if (same === at) at = at.nextSibling;
    else node.insertBefore(same, at);
    morph(same, child);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

async function draw() {
  clearTimeout(timer);
  if (!gate.hidden && !token) return;
  const mine = turn;
  const { view, of } = chosen();
  try {
    const told = await ask(view.path(of));
    if (mine !== turn) return;
    if (!gate.hidden) letIn();
    redraw = () => put(view.draw(told, of, () => redraw()));
    redraw();
    if (isPaused) say("Paused", "warn");
    else say(view.state?.(told) ?? "", "", `${view.pace?.(told) ?? ""} Seen ${new Date().toLocaleTimeString()}`.trim());
  } catch (error) {
    if (mine !== turn) return;
    if (error instanceof Refusal) return askForToken(token && error.message);
    say(error instanceof Trouble ? error.message : `the page cannot show this: ${error.message}`, "bad");
  }
  // Nobody sees a page that is hidden: and the controller looks at proxies only while somebody does.
  if (!isPaused && !document.hidden) timer = setTimeout(draw, view.every);
}

function choose(isFirst) {
  turn += 1;
  forget();
  const { view, of, name } = chosen();
  document.title = `${of ?? view.title} - Meltemi`;
  for (const link of document.querySelectorAll("nav a")) {
    const is = link.hash === (name === "calls" || name === "routes" ? `#/${name}` : `#/${view.under ?? name}`);
    if (is) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  main.replaceChildren();
  // Readers of the screen go on at what is new.
  if (!isFirst) main.focus();
  scrollTo(0, 0);
  draw();
}

pause.addEventListener("click", () => {
  isPaused = !isPaused;
  pause.setAttribute("aria-pressed", String(isPaused));
  if (isPaused) {
    clearTimeout(timer);
    say("Paused", "warn");
  } else draw();
});
gate.addEventListener("submit", (event) => {
  event.preventDefault();
  token = field.value.trim();
  field.value = "";
  why.textContent = "";
  choose(true);
});
leave.addEventListener("click", () => askForToken(""));
addEventListener("hashchange", (event) => {
  // The link that skips to the content is no view.
  if (location.hash === "#main") { history.replaceState(null, "", event.oldURL); main.focus(); return; }
  choose(false);
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else if (!isPaused) draw();
});
choose(true);
