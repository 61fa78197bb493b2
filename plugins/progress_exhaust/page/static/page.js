// What the page does beside showing itself: Airflow's theme, links out of its frame, news of what is being made, buttons.
"use strict";

const POLL_MS = 2000;
const WATCH_MS = 60000; // after a button: the run has to start before anything is seen to run
const framed = window.parent !== window;
const { airflow, dag } = document.currentScript.dataset;
let watchUntil = 0;

function followTheme() {
  const chosen = localStorage.getItem("theme");
  const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = chosen === "dark" || chosen === "light" ? chosen : dark ? "dark" : "light";
}

// Airflow's frame lets no link out by itself: one of Airflow's own document leads there.
function leave(event) {
  const link = event.target.closest("a[data-airflow]");
  if (!link || !framed) return;
  event.preventDefault();
  const outer = window.parent.document.createElement("a");
  outer.href = link.href;
  if (event.ctrlKey || event.metaKey || event.shiftKey) outer.target = "_blank";
  window.parent.document.body.append(outer);
  outer.click();
  outer.remove();
}

// Changes only what differs, so that what the reader has scrolled or marked stays. What has more or fewer parts now is replaced.
function update(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  const apart = old.nodeType !== Node.ELEMENT_NODE || old.nodeName !== fresh.nodeName;
  if (apart || old.dataset.key !== fresh.dataset.key || old.childNodes.length !== fresh.childNodes.length) {
    old.replaceWith(fresh);
    return;
  }
  for (const { name, value } of fresh.attributes) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  const children = [...fresh.childNodes];
  [...old.childNodes].forEach((child, place) => update(child, children[place]));
}

async function refresh() {
  const address = new URL(location.href);
  address.searchParams.set("fragment", "true"); // the list is then made without its nights
  const answer = await fetch(address, { headers: { Accept: "text/html" } });
  if (answer.status === 401 || answer.status === 403) location.reload(); // it says what to do
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const focused = document.activeElement;
  const opened = [...document.querySelectorAll("details[open] > summary")];
  for (const old of document.querySelectorAll("[data-live]")) update(old, fresh.getElementById(old.id));
  // In what was replaced, details are closed, and the focus is lost.
  for (const { id } of opened) document.getElementById(id)?.parentElement.setAttribute("open", "");
  if (!focused.isConnected) document.getElementById(focused.id)?.focus({ preventScroll: true });
}

async function poll() {
  try {
    if (!document.hidden && (Date.now() < watchUntil || document.querySelector("[data-running]"))) await refresh();
  } catch (error) {
    console.warn("no news", error); // the server may be back at the next time
  }
  setTimeout(poll, POLL_MS);
}

function say(words, href) {
  const news = document.getElementById("news");
  news.textContent = words;
  if (!href) return;
  const link = document.createElement("a");
  link.href = href;
  link.dataset.airflow = "";
  link.textContent = "Show the run";
  news.append(". ", link);
}

function ask(question) {
  const dialog = document.getElementById("confirm");
  document.getElementById("question").textContent = question;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

async function press(event) {
  const button = event.target.closest("button[data-post]");
  if (!button) return;
  if (await ask(button.dataset.question)) await send(button);
  // The focus is nowhere where the button was disabled, or is another one by now.
  if (document.activeElement === document.body) document.getElementById(button.id)?.focus({ preventScroll: true });
}

// Airflow's REST API is asked as the user who is logged in: what one may not do, it refuses.
async function send(button) {
  button.disabled = true;
  try {
    const answer = await fetch(airflow + button.dataset.post, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: button.dataset.body,
    });
    const found = await answer.json();
    if (!answer.ok) {
      say(`Airflow refused it: ${answer.status} ${typeof found.detail === "string" ? found.detail : JSON.stringify(found.detail)}`);
      return;
    }
    const run = found.dag_run_id ?? found.task_instances?.[0]?.dag_run_id;
    say(button.dataset.done, run && `${dag}/runs/${encodeURIComponent(run)}`);
    watchUntil = Date.now() + WATCH_MS;
  } catch (error) {
    say(`Airflow does not answer: ${error.message}`);
  } finally {
    button.disabled = false;
  }
}

followTheme();
window.addEventListener("storage", followTheme);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", followTheme);
document.addEventListener("click", leave);
document.addEventListener("click", press);
setTimeout(poll, POLL_MS);
