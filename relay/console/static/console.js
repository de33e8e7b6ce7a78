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
  const PAUSE_MS_MAX = 60000; // where the relay has trouble
  const ANSWER_MS_MAX = 30000;
  const MEANWHILE_MAX = 1000;
  const message = live.dataset.liveMessage;
  const list = live.dataset.liveList; // "all", or "some": those that were asked for
  const address = live.dataset.livePage ?? location.href; // a form may have been answered with this page
  let isOn = true, socket = null, tries = 0, timer = null, delay = 1000;
  let isLooking = false, isWanted = false, lastLook = -Infinity, pause = PAUSE_MS, takenAt = -Infinity;
  let meanwhile = null; // events that came while the page is being asked for

  const line = document.createElement("p");
  line.className = "live";
  const said = document.createElement("span");
  const toggle = button("Pause", () => { isOn = !isOn; end(isOn ? "Not live yet." : "Paused."); if (isOn) begin(); });
  toggle.className = "plain";
  line.append(said, toggle);
  live.before(line);
  function show(text) {
    said.textContent = text;
    toggle.textContent = isOn ? "Pause" : "Follow";
  }

  async function ask(where, more) {
    const answer = await fetch(where, { ...more, signal: AbortSignal.timeout(ANSWER_MS_MAX) });
    if (answer.redirected || answer.status === 401 || answer.status === 403) signedOut();
    if (answer.redirected || !answer.ok) throw new Error(answer.status);
    return answer;
  }

  // This page's token is of a session that is over: only another page has another.
  function signedOut() {
    isOn = false;
    end("Not live any more: load this page again, and sign in where you are asked to.");
  }

  // One try at a time: what an earlier one still brings is let go.
  async function begin() {
    const mine = ++tries;
    try {
      const token = one("input[name=token]").value;
      const { stream } = await (await ask(live.dataset.stream, { method: "POST", body: new URLSearchParams({ token }) })).json();
      if (mine !== tries) return;
      socket = new WebSocket(new URL(stream, location.href.replace(/^http/, "ws")));
      socket.onopen = () => { delay = 1000; show("Live: this page follows what happens."); look(); }; // for what was before
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
    delay = Math.min(delay * 2, PAUSE_MS_MAX);
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
    if (isLooking || document.hidden) return; // it is looked again then
    isLooking = true;
    setTimeout(async () => {
      isWanted = false;
      meanwhile = [];
      try {
        const page = new DOMParser().parseFromString(await (await ask(address)).text(), "text/html");
        if (isOn) take(page);
        pause = PAUSE_MS;
      } catch {
        isWanted = true;
        pause = Math.min(pause * 2, PAUSE_MS_MAX);
      }
      const came = meanwhile;
      meanwhile = null;
      isLooking = false;
      lastLook = performance.now();
      if (isOn && (isWanted || came.some(concerns))) look();
    }, Math.max(0, pause - (performance.now() - lastLook)));
  }

  function take(page) {
    let changed = 0;
    for (const part of all("[data-live]")) {
      const fresh = page.getElementById(part.id);
      if (!fresh) continue;
      const [rows, freshRows] = [one("[data-rows]", part), one("[data-rows]", fresh)];
      if (rows && freshRows) changed += takeRows(rows, freshRows);
      else if (isSame(part, fresh)) takeTimes(part, fresh);
      else {
        if (part.dataset.live !== "quiet") changed += 1;
        keepFocus(part, () => part.replaceChildren(...fresh.childNodes));
        takenAt = performance.now();
      }
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
    all("a, button, summary, [tabindex]", part).find(isLikeIt)?.focus({ preventScroll: true });
  }

  // A click that was meant for the button which stood there a moment ago.
  document.addEventListener("click", (click) => {
    if (performance.now() - takenAt < 700 && click.target.closest("[data-live] button")) click.preventDefault();
  }, true);

  document.addEventListener("visibilitychange", () => { if (isOn) look(); });
  addEventListener("online", () => { if (isOn) look(); });
  addEventListener("pagehide", () => end("Not live just now."));
  addEventListener("pageshow", (shown) => { if (shown.persisted && isOn) begin(); });
  show("Not live yet.");
  begin();
})();
