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
  let isOn = true, socket = null, isLooking = false, lastLook = 0, again = 1000;
  let meanwhile = null; // events that came while the page is being asked for

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
      if (!isOn || socket) return;
      socket = new WebSocket(new URL(stream, location.href.replace(/^http/, "ws")));
      socket.onopen = () => { show(); look(); }; // for what happened before
      socket.onmessage = (frame) => hear(JSON.parse(frame.data));
      socket.onclose = later;
    } catch { later(); }
  }

  function later() {
    socket = null;
    show("Not live just now; trying again.");
    setTimeout(() => { if (isOn && !socket) begin(); }, again);
    again = Math.min(again * 2, 60000);
  }

  // What comes while the page is being asked for may be about a row that comes with it, and may not be in it yet.
  function hear(event) {
    if (meanwhile) meanwhile.push(event);
    else if (concerns(event)) look();
  }

  function concerns(event) {
    const id = String(event.messageId ?? event.about ?? "");
    if (message) return id === message || String(event.about ?? "") === message;
    return one(`[data-message="${CSS.escape(id)}"]`, live) || (isList && /queued$/.test(event.type ?? ""));
  }

  function look() {
    if (isLooking) return;
    isLooking = true;
    setTimeout(async () => {
      meanwhile = [];
      lastLook = Date.now();
      try {
        const answer = await fetch(location.href);
        if (!answer.ok || answer.redirected) throw new Error(answer.status);
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        again = 1000;
        if (isOn) take(page);
      } catch { if (isOn) { end(); later(); } }
      const heard = meanwhile;
      meanwhile = null;
      isLooking = false;
      if (heard.some(concerns)) look();
    }, Math.max(0, PAUSE_MS - (Date.now() - lastLook)));
  }

  function take(page) {
    let changed = 0;
    for (const part of all("[data-live]")) {
      const fresh = page.getElementById(part.id);
      if (!fresh) continue;
      if (part.tagName === "TBODY") changed += takeRows(part, fresh);
      else if (isSame(part, fresh)) takeTimes(part, fresh);
      else {
        changed += 1;
        keepFocus(part, () => part.replaceChildren(...fresh.childNodes));
        part.toggleAttribute("data-live", fresh.hasAttribute("data-live")); // an empty list has rows of its own now
      }
    }
    if (changed) heard.textContent = changed === 1 ? "One change." : `${changed} changes.`;
  }

  function takeRows(body, fresh) {
    const old = all("tr", body);
    let changed = 0;
    const rows = all("tr", fresh).map((row) => {
      const before = old.find((one) => one.id === row.id);
      if (before && isSame(before, row)) { takeTimes(before, row); return before; }
      row.classList.add("fresh");
      changed += 1;
      return row;
    });
    if (changed || rows.length !== old.length) keepFocus(body, () => body.replaceChildren(...rows));
    return changed;
  }

  // Times that pass, pictures of them, and what lets a form be sent once are no change. What is the same stays, with what
  // somebody is typing into it.
  const PASSING = "time, figcaption, svg";
  function isSame(part, fresh) {
    const [before, now] = [part, fresh].map((whole) => {
      const copy = whole.cloneNode(true);
      all(`${PASSING}, input[name=once]`, copy).forEach((passing) => passing.replaceWith(passing.dateTime ?? ""));
      return copy.innerHTML;
    });
    return before === now;
  }

  function takeTimes(part, fresh) {
    const now = all(PASSING, fresh);
    all(PASSING, part).forEach((passing, at) => passing.replaceWith(now[at]));
  }

  function keepFocus(part, change) {
    const focused = part.contains(document.activeElement) ? document.activeElement : null;
    change();
    if (focused?.href) all("a", part).find((link) => link.href === focused.href)?.focus();
  }

  addEventListener("pagehide", () => end());
  show("Not live yet.");
  begin();
})();
