// The behaviour of the page: Airflow's theme and time zone, links out of the frame, updates, menus, buttons.
"use strict";

const POLL_MS = 2000;
const IDLE_POLL_MS = 10000; // while no request is processed: one may be submitted, or claimed
const WATCH_MS = 60000; // after a button: it takes a while until the run has started
const framed = window.parent !== window;
const { airflow, dag } = document.currentScript.dataset;
let watchUntil = 0;

function followTheme() {
  const chosen = localStorage.getItem("theme");
  const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = chosen === "dark" || chosen === "light" ? chosen : dark ? "dark" : "light";
}

// The time zone that the user has chosen in Airflow, else that of the browser, as Airflow does.
function chosenZone() {
  try {
    const zone = JSON.parse(localStorage.getItem("timezone")) || Intl.DateTimeFormat().resolvedOptions().timeZone;
    new Intl.DateTimeFormat("en", { timeZone: zone }); // it raises an error if there is no such zone
    return zone;
  } catch {
    return "UTC";
  }
}

// The server writes times in UTC.
function showTimes(page) {
  const zone = chosenZone();
  const options = { timeZone: zone, dateStyle: "short", timeStyle: "short" };
  const format = new Intl.DateTimeFormat("sv", options); // 2026-11-30 08:15
  for (const time of page.querySelectorAll("time[data-local]")) time.textContent = format.format(new Date(time.dateTime));
  for (const name of page.querySelectorAll("[data-zone]")) name.textContent = zone;
}

// Airflow's frame does not let a link leave the frame. A link in Airflow's own document can.
function openOutsideFrame(event) {
  const link = event.target.closest("a[data-airflow]");
  if (!link || !framed) return;
  event.preventDefault();
  const outer = window.parent.document.createElement("a");
  outer.href = "login" in link.dataset ? comingBack(link.href) : link.href;
  if (event.ctrlKey || event.metaKey || event.shiftKey) outer.target = "_blank";
  window.parent.document.body.append(outer);
  outer.click();
  outer.remove();
}

// Change only what differs, so that scrolling and selection stay. Replace an element if its number of children has changed.
function update(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  const different = old.nodeType !== Node.ELEMENT_NODE || old.nodeName !== fresh.nodeName;
  if (different || old.dataset.key !== fresh.dataset.key || old.childNodes.length !== fresh.childNodes.length) {
    old.replaceWith(fresh);
    return;
  }
  for (const { name, value } of fresh.attributes) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) if (name !== "open" && name !== "aria-disabled" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  const children = [...fresh.childNodes];
  [...old.childNodes].forEach((child, place) => update(child, children[place]));
}

async function refresh() {
  const address = new URL(location.href);
  address.searchParams.set("fragment", "true"); // the list then has no charts
  const answer = await fetch(address, { headers: { Accept: "text/html" } });
  if (answer.status === 401 || answer.status === 403) location.reload(); // the new page says what to do
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  showTimes(fresh);
  const focused = document.activeElement;
  const opened = [...document.querySelectorAll("details[open] > summary")];
  for (const old of document.querySelectorAll("[data-live]")) update(old, fresh.getElementById(old.id));
  // A replaced element has lost the focus, and its details are closed.
  for (const { id } of opened) document.getElementById(id)?.parentElement.setAttribute("open", "");
  if (!focused.isConnected) document.getElementById(focused.id)?.focus({ preventScroll: true });
  disableSent();
}

let lastRefresh = Date.now();

async function poll() {
  const busy = Date.now() < watchUntil || document.querySelector("[data-running]");
  try {
    if (!document.hidden && document.querySelector("[data-live]") && (busy || Date.now() - lastRefresh >= IDLE_POLL_MS)) {
      lastRefresh = Date.now();
      await refresh();
    }
  } catch (error) {
    console.warn("update failed", error); // the server may answer the next time
  }
  setTimeout(poll, POLL_MS);
}

// A menu closes when the user presses Escape, or goes on elsewhere.
function closeMenus(event) {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (event.type === "keydown" ? event.key !== "Escape" : menu.contains(event.target)) continue;
    if (menu.contains(document.activeElement)) menu.querySelector("summary").focus();
    menu.open = false;
  }
}

async function copyText(event) {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    showMessage(`Copied ${button.dataset.copy}`);
  } catch {
    showMessage(`The browser does not allow to copy here. Copy this: ${button.dataset.copy}`);
  }
}

// An address that is shared names only the filters that are set. Days are those of the time zone on the screen.
function tidyForm(event) {
  const form = event.target;
  if (form.getAttribute("role") !== "search") return;
  form.elements.zone.value = form.elements.since.value || form.elements.until.value ? chosenZone() : "";
  for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
  setTimeout(() => { for (const field of form.elements) field.disabled = false; });
}

function showMessage(text, href) {
  const message = document.getElementById("message");
  message.textContent = text;
  if (!href) return;
  const link = document.createElement("a");
  link.href = href;
  link.dataset.airflow = "";
  link.textContent = "Show the run";
  message.append(". ", link);
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

async function pressButton(event) {
  const button = event.target.closest("button[data-post]");
  if (!button || button.getAttribute("aria-disabled")) return;
  if (await ask(button.dataset.question)) await send(button);
  // The focus is lost if the button was replaced.
  if (document.activeElement === document.body) document.getElementById(button.id)?.focus({ preventScroll: true });
}

// Airflow's REST API checks the rights of the user who is logged in.
async function send(button) {
  sent.set(button.id, button.dataset.body);
  disableSent();
  try {
    const answer = await fetch(airflow + button.dataset.post, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: button.dataset.body,
    });
    const result = await answer.json();
    if (!answer.ok) {
      showRefusal(button, answer.status, result.detail);
      return;
    }
    const run = result.dag_run_id ?? result.task_instances?.[0]?.dag_run_id;
    showMessage(button.dataset.done, run && `${dag}/runs/${encodeURIComponent(run)}`);
    watchUntil = Date.now() + WATCH_MS;
  } catch (error) {
    showMessage(`Airflow does not answer: ${error.message}`);
    enableAgain(button);
  }
}

// Buttons that were pressed. A button sends the same call once: until the page shows what came of it, it is disabled.

const sent = new Map(); // id of a button: the body that it has sent

function disableSent() {
  for (const [id, body] of sent) {
    const button = document.getElementById(id);
    if (button?.dataset.body === body) {
      button.setAttribute("aria-disabled", "true"); // it keeps the focus
    } else {
      sent.delete(id);
      button?.removeAttribute("aria-disabled");
    }
  }
}

function enableAgain(button) {
  sent.delete(button.id);
  document.getElementById(button.id)?.removeAttribute("aria-disabled");
}

function showRefusal(button, status, detail) {
  const { body, post, refused } = button.dataset;
  if (status === 409 && refused) {
    showMessage(refused, `${dag}/runs/${encodeURIComponent(JSON.parse(body).dag_run_id)}`);
    watchUntil = Date.now() + WATCH_MS;
    return;
  }
  enableAgain(button);
  const text = typeof detail === "string" ? detail : JSON.stringify(detail);
  showMessage(post.startsWith("/api/") ? `Airflow rejected the call: ${status} ${text}` : text);
}

// In Airflow's frame, the login comes back to the page in its frame.
function comingBack(login) {
  const address = new URL(login);
  address.searchParams.set("next", window.parent.location.href);
  return address.href;
}

followTheme();
document.addEventListener("DOMContentLoaded", () => showTimes(document));
window.addEventListener("storage", () => showTimes(document));
document.addEventListener("submit", tidyForm);
document.addEventListener("click", closeMenus);
document.addEventListener("keydown", closeMenus);
document.addEventListener("click", copyText);
window.addEventListener("storage", followTheme);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", followTheme);
document.addEventListener("click", openOutsideFrame);
document.addEventListener("click", pressButton);
setTimeout(poll, POLL_MS);
