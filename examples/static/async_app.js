"use strict";

// Calls show(data) now, and whenever the page comes into view; data is null if the server does not answer.
// show returns after how many milliseconds to call it again; 0 is never.
function poll(url, show) {
  let timer, asked = 0;
  async function ask() {
    clearTimeout(timer);
    const number = ++asked;
    const response = fetch(url, { signal: AbortSignal.timeout(5000) });
    const data = await response.then(r => (r.ok ? r.json() : null)).catch(() => null);
    if (number < asked) return; // This answer is old: a later one is on its way.
    const wait = show(data);
    if (wait && !document.hidden) timer = setTimeout(ask, wait);
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : ask()));
  ask();
  return ask;
}

// Calls show(job) at each event, until the job has ended; job is null if the stream is refused, or was cut.
function follow(url, show) {
  const source = new EventSource(url);
  source.onmessage = ({ data }) => {
    const job = JSON.parse(data);
    if (!["pending", "running"].includes(job.state)) source.close(); // or it would connect again
    show(job);
  };
  source.onerror = () => {
    source.close();
    show(null);
  };
  return source;
}

const isGoingOn = job => ["pending", "running"].includes(job.state);

// The counts

const askForCounts = poll("/counts", counts => {
  if (!counts) return 0;
  for (const [state, count] of Object.entries(counts)) {
    const shown = document.querySelector(`#counts .${state} dd`);
    shown.textContent = count;
    shown.classList.toggle("none", !count);
  }
  return counts.pending + counts.running ? 2000 : 0;
});

// The buttons of the views

const presses = new WeakMap(); // the last press of each card

async function press(button) {
  const card = button.closest("article");
  const [took, output, lanes, log] = [".took", "output", ".lanes", ".log"].map(name => card.querySelector(name));
  const began = performance.now();
  const isLast = () => presses.get(card) === began;
  presses.set(card, began);
  button.ariaDisabled = true;
  took.textContent = "…";
  output.textContent = output.className = "";
  lanes.hidden = log.hidden = true;
  lanes.lastElementChild.textContent = "";
  try {
    const response = await fetch(pathOf(button), { method: button.dataset.method });
    const ids = response.headers.get("X-Jobs")?.split(" ") ?? [];
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part; !(part = await reader.read()).done && isLast();) output.textContent += part.value;
    if (!isLast()) return;
    took.textContent = `${Math.round(performance.now() - began)} ms`;
    output.className = response.ok ? "" : "error";
    output.textContent = response.status + "  " + output.textContent;
    button.ariaDisabled = null;
    if (ids.length) await drawUntilEnded(lanes, ids, isLast);
    if (isLast() && lanes.querySelector(".failed")) await showLog(log, ids, isLast);
  } catch (error) {
    if (!isLast()) return;
    took.textContent = "";
    output.className = "error";
    output.textContent = `The server does not answer: ${error.message}`;
    button.ariaDisabled = null;
  }
}

function pathOf(button) {
  const on = document.querySelector("#switch :checked").value;
  return button.dataset.path + ("switches" in button.dataset && on !== "threads" ? "?on=" + on : "");
}

// Draws the jobs again and again until all have ended.
async function drawUntilEnded(lanes, ids, isLast) {
  const body = new URLSearchParams(ids.map(id => ["job", id]));
  for (let asked = 0; asked < 100 && isLast(); asked++) {
    const response = await fetch("/timeline", { method: "POST", body });
    const jobs = response.ok ? await response.json() : [];
    if (!isLast()) return;
    if (jobs.length) draw(lanes, jobs);
    askForCounts();
    if (jobs.length === ids.length && !jobs.some(isGoingOn)) return;
    await pause(300);
  }
}

// Shows the log from the line that names one of the jobs. The line may come a moment after the job has ended.
async function showLog(log, ids, isLast) {
  for (let asked = 0; asked < 20; asked++) {
    const response = await fetch("/log");
    const lines = response.ok ? await response.json() : [];
    if (!isLast()) return;
    const first = lines.findIndex(line => ids.some(id => line.includes(id)));
    if (first >= 0) {
      log.textContent = lines.slice(first).join("");
      log.hidden = false;
      log.scrollTop = log.scrollHeight; // The last line says most.
      return;
    }
    await pause(300);
  }
}

const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));

// A lane holds jobs that did not run at the same time, so there are as many lanes as jobs ran at once.
function draw(figure, jobs) {
  const started = jobs.filter(job => job.started).sort((a, b) => a.started - b.started);
  const first = Math.min(...jobs.map(job => job.submitted));
  const last = Math.max(...started.map(job => job.ended));
  const milliseconds = time => Math.round((time - first) * 1000);
  const lanes = [];
  for (const job of started) {
    const lane = lanes.find(lane => lane.at(-1).ended <= job.started);
    if (lane) lane.push(job);
    else lanes.push([job]);
  }
  const [picture, caption] = figure.children;
  const isFirst = figure.hidden;
  picture.replaceChildren(...lanes.map(lane => element("lane", ...lane.map(job => {
    const bar = element(`bar ${job.state}`);
    bar.style.left = `${100 * (job.started - first) / (last - first)}%`;
    bar.style.width = `${100 * (job.ended - job.started) / (last - first)}%`;
    bar.style.animationDuration = isFirst ? "" : "0s";
    bar.title = `${job.name}: ${job.error ?? job.state}, ${milliseconds(job.started)} to ${milliseconds(job.ended)} ms`;
    return bar;
  }))));
  caption.textContent = describeJobs(jobs, lanes.length);
  if (lanes.length && !jobs.some(isGoingOn)) caption.textContent += ` after ${milliseconds(last)} ms`;
  picture.ariaLabel = caption.textContent;
  figure.hidden = false;
}

function element(className, ...children) {
  const made = document.createElement("div");
  made.className = className;
  made.append(...children);
  return made;
}

// For example: 12 jobs, 4 at a time: 12 succeeded
function describeJobs(jobs, atATime) {
  const counts = {};
  for (const { error, state } of jobs) {
    const end = error ? `failed with ${error}` : state;
    counts[end] = (counts[end] ?? 0) + 1;
  }
  const ends = Object.entries(counts).map(([end, count]) => `${count} ${end}`).join(", ");
  return jobs.length === 1 ? `1 job: ${ends.slice(2)}` : `${jobs.length} jobs, ${atATime} at a time: ${ends}`;
}

const buttons = [...document.querySelectorAll("[data-path]")];
buttons.forEach(button => button.addEventListener("click", () => button.ariaDisabled || press(button)));
document.getElementById("switch").addEventListener("change", () => press(buttons[0]));
press(buttons[0]); // The first button needs no click.

// The reports

const [list, gone, refused] = ["reports", "gone", "refused"].map(id => document.getElementById(id));
let stream = null; // of the report whose bar the server pushes
let refusedStream = null; // the id of the report that cannot be streamed

const askForReports = poll("/reports", reports => {
  const wasGone = gone.textContent;
  gone.textContent = reports ? "" : "The server does not answer. The page goes on asking.";
  list.classList.toggle("old", !reports);
  if (!reports) return 3000;
  if (wasGone) askForCounts();
  const ids = reports.map(report => report.id);
  [...list.children].filter(row => !ids.includes(row.id)).forEach(row => row.remove());
  [...reports].reverse().forEach(show);
  const running = reports.filter(report => report.state === "running");
  if (running.length) openStream(running[0]);
  if (!reports.some(isGoingOn)) return 0;
  return stream && running.length === 1 ? 5000 : 1000;
});

// Streams one bar; the other bars, and this one where there is no stream, move as the list is polled.
function openStream(report) {
  if (stream || refusedStream === report.id || document.hidden) return;
  let hasBegun = false;
  stream = follow(`/reports/${encodeURIComponent(report.month)}/events`, pushed => {
    if (pushed) show(pushed);
    if (pushed && isGoingOn(pushed)) {
      hasBegun = true;
      return;
    }
    if (!hasBegun) refusedStream = report.id;
    stream = null;
    // To ask opens the next stream, if the report still runs.
    if (hasBegun && !pushed) setTimeout(askForReports, 1000);
    else askForReports();
  });
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) return;
  stream?.close(); // It would keep a thread of the server for nobody.
  stream = null;
});

function show(report) {
  const row = document.getElementById(report.id) ?? addRow(report);
  const [, state, button, bar, text] = row.children;
  const { progress } = report;
  const isStoppable = isGoingOn(report);
  if (state.textContent !== report.state) askForCounts();
  state.textContent = report.state;
  state.className = `state ${report.state}`;
  button.textContent = isStoppable ? "Cancel" : "Forget";
  button.onclick = () => (isStoppable ? call("POST", report.id + "/cancel") : call("DELETE", report.id));
  bar.value = progress?.fraction ?? 0;
  text.textContent = report.result ?? report.error ?? (progress ? describeProgress(progress) : "");
  if (isStoppable && progress?.time_left) text.textContent += `, ${Math.ceil(progress.time_left)} s left`;
}

function addRow(report) {
  list.prepend(document.getElementById("report").content.cloneNode(true));
  const row = list.firstElementChild;
  row.id = report.id;
  row.querySelector("strong").textContent = row.querySelector("progress").ariaLabel = report.month;
  return row;
}

function describeProgress({ done, total, message }) {
  return `${done} of ${total} ${message}`;
}

document.getElementById("start").addEventListener("submit", event => {
  event.preventDefault();
  call("POST", event.target.elements.month.value);
});

async function call(method, path) {
  const response = await fetch("/reports/" + encodeURI(path), { method }).catch(() => null);
  refused.textContent = response?.status === 409 ? (await response.json()).error : "";
  askForReports();
}
