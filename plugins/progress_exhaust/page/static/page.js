// The behaviour of the page: Airflow's theme, links out of the frame, updates while a request is processed, buttons.
"use strict";

const POLL_MS = 2000;
const WATCH_MS = 60000; // after a button: it takes a while until the run has started
const framed = window.parent !== window;
const { airflow, dag } = document.currentScript.dataset;
let watchUntil = 0;

function followTheme() {
  const chosen = localStorage.getItem("theme");
  const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = chosen === "dark" || chosen === "light" ? chosen : dark ? "dark" : "light";
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
  const focused = document.activeElement;
  const opened = [...document.querySelectorAll("details[open] > summary")];
  for (const old of document.querySelectorAll("[data-live]")) update(old, fresh.getElementById(old.id));
  // A replaced element has lost the focus, and its details are closed.
  for (const { id } of opened) document.getElementById(id)?.parentElement.setAttribute("open", "");
  if (!focused.isConnected) document.getElementById(focused.id)?.focus({ preventScroll: true });
  disableSent();
}

async function poll() {
  try {
    if (!document.hidden && (Date.now() < watchUntil || document.querySelector("[data-running]"))) await refresh();
  } catch (error) {
    console.warn("update failed", error); // the server may answer the next time
  }
  setTimeout(poll, POLL_MS);
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
window.addEventListener("storage", followTheme);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", followTheme);
document.addEventListener("click", openOutsideFrame);
document.addEventListener("click", pressButton);
setTimeout(poll, POLL_MS);
