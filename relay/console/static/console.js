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
  const LOOK_MS_MAX = 30000;
  const MEANWHILE_MAX = 1000;
  const message = live.dataset.liveMessage;
  const list = live.dataset.liveList; // "all", or "some": those that were asked for
  let isOn = true, socket = null, tries = 0, timer = null, delay = 1000;
  let isLooking = false, isWanted = false, lastLook = 0;
  let meanwhile = null; // events that came while the page is being asked for

  const line = document.createElement("p");
  line.className = "live";
  const said = document.createElement("span");
  const toggle = button("Pause", () => { isOn = !isOn; end(isOn ? "Not live yet." : "Paused."); if (isOn) begin(); });
  toggle.className = "plain";
  line.append(said, toggle);
  live.before(line);
  function show(text) {
    said.textContent = text ?? "Live: this page follows what happens.";
    toggle.textContent = isOn ? "Pause" : "Follow";
  }

  // One try at a time: what an earlier one still brings is let go.
  async function begin() {
    const mine = ++tries;
    try {
      const token = one("input[name=token]").value;
      const answer = await fetch(live.dataset.stream, { method: "POST", body: new URLSearchParams({ token }) });
      if (!answer.ok) throw new Error(answer.status);
      const { stream } = await answer.json();
      if (mine !== tries) return;
      socket = new WebSocket(new URL(stream, location.href.replace(/^http/, "ws")));
      socket.onopen = () => { show(); look(); }; // for what happened before
      socket.onmessage = (frame) => hear(JSON.parse(frame.data));
      socket.onclose = later;
    } catch { if (mine === tries) later(); }
  }

  function end(text) {
    tries += 1;
    clearTimeout(timer);
    if (socket) { socket.onopen = socket.onclose = socket.onmessage = null; socket.close(); socket = null; }
    show(text);
  }

  function later() {
    end("Not live just now; trying again.");
    timer = setTimeout(begin, delay);
    delay = Math.min(delay * 2, 60000);
  }

  // What comes while the page is being asked for may be about a row that comes with it, and may not be in it yet.
  function hear(event) {
    if (!meanwhile) { if (concerns(event)) look(); }
    else if (meanwhile.length < MEANWHILE_MAX) meanwhile.push(event);
    else isWanted = true;
  }

  function concerns(event) {
    const id = String(event.messageId ?? event.about ?? "");
    if (message) return id === message || String(event.about ?? "") === message;
    if (list === "some") return id !== ""; // it may become one of them
    return one(`[data-message="${CSS.escape(id)}"]`, live) || (list && /queued$/.test(event.type ?? ""));
  }

  function look() {
    isWanted = true;
    if (isLooking) return;
    isLooking = true;
    setTimeout(async () => {
      isWanted = false;
      meanwhile = [];
      lastLook = Date.now();
      let isTaken = false;
      try {
        const answer = await fetch(location.href, { signal: AbortSignal.timeout(LOOK_MS_MAX) });
        if (!answer.ok || answer.redirected) throw new Error(answer.status);
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        delay = 1000;
        if (isOn) take(page);
        isTaken = true;
      } catch { if (isOn) later(); } // which looks when it listens again
      const came = meanwhile;
      meanwhile = null;
      isLooking = false;
      if (isOn && isTaken && (isWanted || came.some(concerns))) look();
    }, Math.max(0, PAUSE_MS - (Date.now() - lastLook)));
  }

  function take(page) {
    let changed = 0;
    for (const part of all("[data-live]")) {
      const fresh = page.getElementById(part.id);
      if (!fresh) continue;
      const [rows, freshRows] = [one("[data-rows]", part), one("[data-rows]", fresh)];
      if (rows && freshRows) changed += takeRows(rows, freshRows);
      else if (isSame(part, fresh)) takeTimes(part, fresh);
      else { changed += 1; keepFocus(part, () => part.replaceChildren(...fresh.childNodes)); }
    }
    if (changed) heard.textContent = changed === 1 ? "One change." : `${changed} changes.`;
  }

  // A row that is the same stays where it is: what is moved loses its focus, and shows once more that it is new.
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
    keepFocus(body, () => {
      old.filter((row) => !rows.includes(row)).forEach((row) => row.remove());
      rows.forEach((row, at) => { if (body.children[at] !== row) body.insertBefore(row, body.children[at] ?? null); });
    });
    return changed;
  }

  // Times that pass, pictures of them, and what lets a form be sent once are no change. What is the same stays, with what
  // somebody is typing into it.
  const PASSING = "time, time + .nowrap, figcaption, svg";
  function isSame(part, fresh) {
    if (all(PASSING, part).length !== all(PASSING, fresh).length) return false;
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
    if (!focused || part.contains(focused)) return;
    const isLikeIt = (each) => each.tagName === focused.tagName && each.href === focused.href && each.textContent === focused.textContent;
    all("a, button, summary", part).find(isLikeIt)?.focus();
  }

  addEventListener("pagehide", () => end());
  show("Not live yet.");
  begin();
})();
