"use strict";
// Keeps the page up to date: it fetches its own address again, and changes the parts that are
// marked with data-live where they differ. All of the page is made on the server.
(() => {
  const POLL = 2000, LEAST = 1000, RETRY = 30000; // milliseconds
  const meta = name => document.querySelector(`meta[name="${name}"]`);
  const connection = document.getElementById("connection");
  let source = null, timer = null, isFetching = false, isStale = false, isStopped = false, polls = true;
  let last = Date.now(); // when the page was asked for last
  let seen = new Date(); // when the server answered last

  function say(text, kind) {
    // A screen reader would read the same text again.
    if (connection.textContent !== text) connection.textContent = text;
    connection.className = kind;
    document.body.classList.toggle("stale", kind === "away" && !document.getElementById("problem"));
  }

  // Makes an element like another one. What stays the same is not touched, so focus, selection,
  // open details and places of scrolling stay, too.
  function patch(old, fresh) {
    if (old.isEqualNode(fresh)) return;
    if (old.nodeType !== Node.ELEMENT_NODE) { old.data = fresh.data; return; }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    for (const { name } of [...old.attributes]) {
      const isOfUser = name === "open" && old.nodeName === "DETAILS";
      if (!fresh.hasAttribute(name) && !isOfUser) old.removeAttribute(name);
    }
    const ids = new Set([...fresh.children].map(child => child.id));
    for (const child of [...old.children]) if (child.id && !ids.has(child.id)) child.remove();
    const known = new Map([...old.children].filter(child => child.id).map(child => [child.id, child]));
    let next = old.firstChild;
    for (const child of [...fresh.childNodes]) {
      const same = child.id ? known.get(child.id) : next && !next.id && next;
      if (!same || same.nodeName !== child.nodeName) {
        old.insertBefore(document.importNode(child, true), next);
        continue;
      }
      if (same === next) next = next.nextSibling;
      else old.insertBefore(same, next);
      patch(same, child);
    }
    while (next) {
      const after = next.nextSibling;
      next.remove();
      next = after;
    }
  }

  function replace(part, fresh) {
    const focused = part.contains(document.activeElement) ? document.activeElement : null;
    patch(part, fresh);
    if (!focused || document.activeElement === focused) return;
    const target = focused.id && document.getElementById(focused.id);
    if (target) target.focus({ preventScroll: true });
  }

  async function refresh() {
    if (isFetching) { isStale = true; return; }
    isFetching = true;
    isStale = false;
    last = Date.now();
    try {
      const response = await fetch(location.href, { headers: { Accept: "text/html" } });
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
      const token = fresh.querySelector('meta[name="csrf-token"]');
      if (!token) { // the page of a login, say
        say("This page is not there any more: reload it", "away");
        isStopped = true;
        isFetching = false;
        return leave();
      }
      meta("csrf-token").content = token.content;
      if (response.ok) {
        for (const part of document.querySelectorAll("[data-live]")) {
          const other = fresh.getElementById(part.id);
          if (other) replace(part, other);
        }
        arrange();
        seen = new Date();
        say(polls ? "polling" : "live", polls ? "" : "live");
      } else {
        const problem = fresh.querySelector("#problem h1");
        say(problem ? problem.textContent : `The server answers ${response.status}`, "away");
      }
      isStopped = response.status === 403 || response.status === 404;
    } catch {
      say(`The server does not answer; this was so at ${seen.toLocaleTimeString()}`, "away");
    }
    isFetching = false;
    schedule();
  }

  // Polls; or, with events, looks now and then, as times pass.
  function schedule() {
    clearTimeout(timer);
    if (document.hidden || isStopped) return;
    const wait = isStale ? LEAST : polls ? POLL : RETRY;
    timer = setTimeout(refresh, Math.max(0, last + wait - Date.now()));
  }

  function listen() {
    if (source || document.hidden || isStopped || !window.EventSource) return;
    source = new EventSource(meta("executor-events").content);
    source.addEventListener("changed", () => { polls = false; isStale = true; schedule(); });
    source.onerror = () => {
      polls = true;
      if (source.readyState === EventSource.CLOSED) { // refused
        source = null;
        setTimeout(listen, RETRY);
      }
      schedule();
    };
  }

  function leave() {
    if (source) source.close();
    source = null;
    polls = true;
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) leave();
    else { listen(); refresh(); }
    schedule();
  });
  window.addEventListener("pagehide", leave);

  // Without this, the link leads to a page that asks.
  document.addEventListener("click", async event => {
    const link = event.target.closest("a[data-confirm]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (!confirm(link.dataset.confirm)) return;
    try {
      const headers = { "X-CSRF-Token": meta("csrf-token").content };
      const response = await fetch(link.href, { method: "POST", headers });
      if (!response.ok) {
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        const problem = page.querySelector("#problem");
        alert(problem ? problem.textContent.trim() : `The server answers ${response.status}`);
      } else if (link.pathname.endsWith("/forget") && document.getElementById("job")) {
        location.href = document.getElementById("home").href;
        return;
      }
    } catch {
      alert("The server does not answer");
    }
    refresh();
  });

  // Drawings: a line below each tells the details of the bar or minute that the user points at or
  // reaches by keyboard. Tab reaches one of them; the arrow keys lead to the others.
  const ITEMS = "a.bar, .slot";
  const chosen = new Map(); // the id of the item that was told last, by the id of its line

  function tell(event) {
    const item = event.target.closest(ITEMS);
    if (!item) return;
    const drawing = item.closest("[data-tells]");
    chosen.set(drawing.dataset.tells, item.id);
    document.getElementById(drawing.dataset.tells).textContent = item.getAttribute("aria-label");
    if (event.type === "focusin") arrange();
  }

  // After each change of the page, as the server knows nothing of the user's choice.
  function arrange() {
    for (const drawing of document.querySelectorAll("[data-tells]")) {
      const items = [...drawing.querySelectorAll(ITEMS)];
      const item = items.find(each => each.id === chosen.get(drawing.dataset.tells));
      if (item) document.getElementById(drawing.dataset.tells).textContent = item.getAttribute("aria-label");
      const reached = item || items[items.length - 1];
      for (const each of items) each.setAttribute("tabindex", each === reached ? 0 : -1);
    }
  }

  const middle = item => { const { left, right } = item.getBoundingClientRect(); return (left + right) / 2; };

  // The item that is nearest to another one, in the next lane that has items.
  function across(item, step) {
    const lanes = [...item.closest("[data-tells]").querySelectorAll(".lane")].filter(lane => lane.querySelector(ITEMS));
    const lane = lanes[lanes.indexOf(item.closest(".lane")) + step];
    if (!lane) return null;
    const distance = other => Math.abs(middle(other) - middle(item));
    return [...lane.querySelectorAll(ITEMS)].sort((one, other) => distance(one) - distance(other))[0];
  }

  document.addEventListener("keydown", event => {
    const item = event.target.closest(ITEMS);
    if (!item || event.ctrlKey || event.metaKey || event.altKey) return;
    const items = [...item.closest("[data-tells]").querySelectorAll(ITEMS)];
    const at = items.indexOf(item);
    const ways = {
      ArrowLeft: () => items[at - 1],
      ArrowRight: () => items[at + 1],
      ArrowUp: () => across(item, -1),
      ArrowDown: () => across(item, 1),
      Home: () => items[0],
      End: () => items[items.length - 1],
    };
    if (!Object.hasOwn(ways, event.key)) return;
    event.preventDefault();
    const target = ways[event.key]();
    if (target) target.focus();
  });
  document.addEventListener("pointerover", tell);
  document.addEventListener("focusin", tell);

  // A phone shows a part of the timeline: the last minutes.
  const box = document.getElementById("timeline-box");
  if (box) box.scrollLeft = box.scrollWidth;
  arrange();
  listen();
  schedule();
})();
