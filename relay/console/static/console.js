/* What pages are without this script they are with it, too. It copies values, sends a form whose slider was moved, and
   keeps what is live up to date: it listens on the member's status stream, and when something has happened to what is
   shown it asks for the page again and takes over the rows that are not the same. */
"use strict";
(() => {
  const one = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];

  function button(text, act) {
    const made = document.createElement("button");
    made.type = "button";
    made.className = "second";
    made.textContent = text;
    made.addEventListener("click", () => act(made));
    return made;
  }

  // ------------------------------------------------------------------ copying
  const heard = document.createElement("p"); // what a screen reader is told
  heard.className = "unseen";
  heard.setAttribute("role", "status");
  document.body.append(heard);

  for (const value of all("[data-copy]")) {
    const copy = button("Copy", async (made) => {
      try {
        await navigator.clipboard.writeText(value.textContent);
        made.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(value); // no clipboard without https: the reader's own keys copy it
        made.textContent = "Selected";
      }
      heard.textContent = made.textContent;
      setTimeout(() => { made.textContent = "Copy"; }, 2000);
    });
    copy.setAttribute("aria-label", `Copy ${value.dataset.copy}`);
    value.after(copy);
  }

  for (const form of all("[data-slider]")) {
    const slider = one("input[type=range]", form);
    slider.addEventListener("input", () => { one("output", form).textContent = slider.value; });
    slider.addEventListener("change", () => form.requestSubmit());
  }

  // ------------------------------------------------------------------ what is live
  const live = one("[data-stream]");
  if (!live) return;
  const PAUSE_MS = 1500; // between two looks at the page
  const message = live.dataset.liveMessage;
  const isList = live.hasAttribute("data-live-list");
  let isOn = true, socket = null, waiting = null, lastLook = 0, again = 1000;

  const line = document.createElement("p");
  line.className = "live";
  const said = document.createElement("span");
  const toggle = button("Pause", () => { isOn = !isOn; isOn ? begin() : end("Paused."); show(); });
  toggle.className = "plain";
  line.append(said, toggle);
  live.before(line);
  function show(text) {
    said.textContent = text ?? (isOn ? "Live: this page follows what happens." : "Paused.");
    toggle.textContent = isOn ? "Pause" : "Follow";
  }

  function end(text) {
    if (socket) { socket.onclose = null; socket.close(); socket = null; }
    show(text);
  }

  async function begin() {
    try {
      const token = one("input[name=token]").value;
      const answer = await fetch(live.dataset.stream, { method: "POST", body: new URLSearchParams({ token }) });
      if (!answer.ok) throw new Error(answer.status);
      const { stream } = await answer.json();
      if (!isOn) return;
      socket = new WebSocket(new URL(stream, location.href.replace(/^http/, "ws")));
      socket.onopen = () => { again = 1000; show(); };
      socket.onmessage = (frame) => { if (concerns(JSON.parse(frame.data))) look(); };
      socket.onclose = later;
    } catch { later(); }
  }

  function later() {
    socket = null;
    show("Not live just now; trying again.");
    setTimeout(() => { if (isOn && !socket) { begin(); look(); } }, again);
    again = Math.min(again * 2, 60000);
  }

  function concerns(event) {
    const id = String(event.messageId ?? event.about ?? "");
    if (message) return id === message || String(event.about ?? "") === message;
    return one(`[data-message="${CSS.escape(id)}"]`, live) || (isList && /queued$/.test(event.type ?? ""));
  }

  function look() {
    if (waiting) return;
    waiting = setTimeout(async () => {
      waiting = null;
      lastLook = Date.now();
      const answer = await fetch(location.href);
      if (answer.ok && !answer.redirected) take(new DOMParser().parseFromString(await answer.text(), "text/html"));
    }, Math.max(0, PAUSE_MS - (Date.now() - lastLook)));
  }

  function take(page) {
    let changed = 0;
    for (const part of all("[data-live]")) {
      const fresh = page.getElementById(part.id);
      if (!fresh) continue;
      if (part.tagName === "TBODY") changed += takeRows(part, fresh);
      else if (part.innerHTML !== fresh.innerHTML) { keepFocus(part, () => part.replaceChildren(...fresh.childNodes)); changed = 1; }
    }
    if (changed) heard.textContent = changed === 1 ? "One change." : `${changed} changes.`;
  }

  function takeRows(body, fresh) {
    const old = new Map(all("tr", body).map((row) => [row.id, row]));
    let changed = 0;
    const rows = all("tr", fresh).map((row) => {
      const before = old.get(row.id);
      // Times that pass are no change; the row is taken all the same, so that they are right.
      const isSame = before && bare(before) === bare(row);
      if (!isSame) { row.classList.add("fresh"); changed += 1; }
      return row;
    });
    keepFocus(body, () => body.replaceChildren(...rows));
    return changed;
  }

  const bare = (row) => all("td, th", row).map((cell) => {
    const copy = cell.cloneNode(true);
    all("time", copy).forEach((time) => { time.textContent = ""; });
    return copy.innerHTML;
  }).join();

  function keepFocus(part, change) {
    const focused = part.contains(document.activeElement) ? document.activeElement : null;
    change();
    if (focused?.href) all("a", part).find((link) => link.href === focused.href)?.focus();
  }

  addEventListener("pagehide", () => end());
  show("Not live yet.");
  begin();
})();
