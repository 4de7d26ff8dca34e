// Updates the page: shows the run in progress from server-sent events, and fetches the rest of the page again when a
// run starts or finishes. Never builds HTML from text. Keeps the token in memory only.
"use strict";

const IDLE_SECONDS = 60;
const SPEAK_SECONDS = 20;
const BASE = document.documentElement.dataset.base;
// The texts of the page's language. `{}` stands for a value.
const TEXTS = JSON.parse(document.body.dataset.texts);

const byId = (id) => document.getElementById(id);
const tell = (text, ...values) => values.reduce((told, value) => told.replace("{}", value), text);
const two = (number) => String(number).padStart(2, "0");

// --- formatting: same output as the server ---------------------------------------------------------------------

function size(bytes) {
    if (bytes < 1000) return `${Math.round(bytes)} B`;
    const units = ["kB", "MB", "GB", "TB", "PB"];
    let number = bytes / 1000, unit = 0;
    while (number >= 999.95 && unit < units.length - 1) { number /= 1000; unit += 1; }
    return `${number.toFixed(1)} ${units[unit]}`;
}

function duration(seconds) {
    if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
    const whole = Math.round(seconds), minutes = Math.floor(whole / 60);
    if (whole < 60) return `${whole} s`;
    if (minutes < 60) return `${minutes}m ${two(whole % 60)}s`;
    return `${Math.floor(minutes / 60)}h ${two(minutes % 60)}m`;
}

function ago(seconds) {
    const far = Math.abs(seconds);
    if (far < 45) return seconds >= 0 ? TEXTS.now : TEXTS.soon;
    const [unit, length] = far < 5400 ? ["min", 60] : far < 129600 ? ["h", 3600] : ["days", 86400];
    const text = tell(TEXTS[unit], Math.max(1, Math.round(far / length)));
    return tell(seconds >= 0 ? TEXTS.ago : TEXTS.in, text);
}

function localTime(text) {
    const when = new Date(text);
    const format = when.getFullYear() === new Date().getFullYear() ? TEXTS.date : TEXTS.oldDate;
    const parts = {
        day: when.getDate(), month: TEXTS.months[when.getMonth()], year: when.getFullYear(),
        time: `${two(when.getHours())}:${two(when.getMinutes())}`,
    };
    return format.replace(/\{(\w+)\}/g, (_whole, name) => parts[name]);
}

const AS = {
    size, duration,
    rate: (value) => `${size(value)}/s`,
    left: (value) => (value === null ? "" : tell(TEXTS.left, duration(value))),
    of: (value) => (value < 0 ? "" : tell(TEXTS.of, size(value))),
    short: (value) => { const [algorithm, hex] = value.split(":"); return `${algorithm}:${hex.slice(0, 12)}`; },
    count: String,
};

// --- times -----------------------------------------------------------------------------------------------------

function tellTimes(root) {
    for (const each of root.querySelectorAll("time[datetime]")) {
        const text = localTime(each.dateTime);
        if (each.textContent !== text) each.textContent = text;
    }
    for (const each of root.querySelectorAll("[data-since]")) {
        const text = ago((Date.now() - Date.parse(each.dataset.since)) / 1000);
        if (each.textContent !== text) each.textContent = text;
    }
}

// --- the run in progress ---------------------------------------------------------------------------------------

const at = (data, path) => path.split(".").reduce((value, name) => value?.[name], data);

function fill(root, data) {
    for (const each of root.querySelectorAll("[data-of]")) {
        if (each.closest("[data-list]") && !root.closest("[data-list]")) continue;
        const value = at(data, each.dataset.of);
        const text = value === undefined ? "" : each.dataset.as ? AS[each.dataset.as](value) : String(value);
        if (each.textContent !== text) each.textContent = text;
    }
    for (const each of root.querySelectorAll("progress[data-bar]")) {
        if (each.closest("[data-list]") && !root.closest("[data-list]")) continue;
        const [value, whole] = each.dataset.bar.split("/").map((path) => at(data, path));
        if (whole > 0) { each.max = whole; each.value = Math.min(value, whole); } else each.removeAttribute("value");
    }
}

function fillList(root, name, entries) {
    const list = root.querySelector(`[data-list="${name}"]`);
    const rows = [...list.children];
    entries.forEach((entry, place) => {
        let row = rows[place];
        if (!row || row.dataset.key !== (entry.digest ?? "")) {
            // Use a new bar for another blob: a bar that is already filled would run backwards.
            row = byId(name).content.firstElementChild.cloneNode(true);
            row.dataset.key = entry.digest ?? "";
            if (rows[place]) rows[place].replaceWith(row); else list.append(row);
        }
        fill(row, entry);
    });
    rows.slice(entries.length).forEach((row) => row.remove());
}

let spokenAt = 0, spokenFailed = 0;

function speak(text) {
    byId("spoken").textContent = text;
    spokenAt = Date.now();
}

function showProgress(run) {
    const live = byId("live");
    if (!byId("now")) return;
    if ((run?.id ?? "") !== (live?.dataset.run ?? "")) {
        const ofAnother = byId("summary") && !live;
        if (!ofAnother) refreshSoon();
        return;
    }
    if (!run) return;
    fill(live, run);
    fillList(live, "transfers", run.transfers);
    fillList(live, "failures", run.failures);
    live.querySelector(".failed").toggleAttribute("data-none", run.images.failed === 0);
    live.querySelector(".round").hidden = run.round === 0;
    const { done, total, failed } = run.images;
    if (Date.now() - spokenAt > SPEAK_SECONDS * 1000 || (failed && !spokenFailed)) {
        speak(tell(TEXTS.done, done, total) + (failed ? `, ${tell(TEXTS.failed, failed)}` : ""));
    }
    spokenFailed = failed;
}

// --- the rest of the page, rendered by the server --------------------------------------------------------------

let refreshing = false, again = false, timer = 0, due = Infinity;

function refreshSoon(milliseconds = 150) {
    // The earliest refresh wins: an answer that was in flight when a run finished must not delay the next refresh.
    const when = Date.now() + milliseconds;
    if (when >= due) return;
    clearTimeout(timer);
    due = when;
    timer = setTimeout(refresh, milliseconds);
}

async function refresh() {
    due = Infinity;
    if (refreshing) { again = true; return; }
    refreshing = true;
    try {
        const answer = await fetch(location.href, { cache: "no-store" });
        if (answer.ok) take(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch {
        lost(true);
    }
    refreshing = false;
    const soon = again || document.querySelector("main[data-again]");
    again = false;
    refreshSoon(soon ? 700 : IDLE_SECONDS * 1000);
}

function take(fresh) {
    const focused = document.activeElement?.id;
    for (const part of fresh.querySelectorAll("[data-part]")) {
        const old = byId(part.id);
        // Events update the run in progress. Keep its button: the user may be pressing it.
        const run = part.querySelector("#live")?.dataset.run;
        if (!old || (run && run === old.querySelector("#live")?.dataset.run)) continue;
        ready(part);
        old.replaceWith(part);
    }
    document.querySelector("main").toggleAttribute("data-again", fresh.querySelector("main").hasAttribute("data-again"));
    document.title = fresh.title;
    // If the focused button is gone, move the focus to the heading of its section.
    if (focused && document.activeElement?.id !== focused) (byId(focused) ?? byId("now-title"))?.focus({ preventScroll: true });
}

function ready(root) {
    tellTimes(root);
    root.querySelector("#live .failed")?.toggleAttribute("data-none", root.querySelector("#live .failed").textContent === "0");
    for (const form of root.querySelectorAll("form[data-api]")) {
        form.hidden = false;
        form.addEventListener("submit", (event) => { event.preventDefault(); act(form.dataset.api, form.dataset.body); });
    }
}

// --- events ----------------------------------------------------------------------------------------------------

let stream = null, wasLost = false;

function lost(yes) {
    const link = byId("link");
    link.classList.toggle("lost", yes);
    link.textContent = yes ? TEXTS.lost : TEXTS.live;
    wasLost = yes;
}

function connect() {
    if (stream || document.hidden) return;
    stream = new EventSource(`${BASE}/api/v1/events`);
    stream.onopen = () => { if (wasLost) refreshSoon(); lost(false); };
    stream.onerror = () => {
        lost(true);
        if (stream?.readyState === EventSource.CLOSED) { stream = null; setTimeout(connect, 5000); }
    };
    stream.addEventListener("progress", (event) => showProgress(JSON.parse(event.data)));
    stream.addEventListener("image", (event) => {
        // The page of an image follows it. Its run may go on for long.
        if (JSON.parse(event.data).destination === document.querySelector("main").dataset.image) refreshSoon();
    });
    stream.addEventListener("run", (event) => {
        const { outcome } = JSON.parse(event.data);
        speak(outcome ? tell(TEXTS.finished, TEXTS[outcome]) : TEXTS.started);
        refreshSoon();
    });
}

function disconnect() {
    // Browsers limit the connections to a server, so a hidden page closes its stream.
    stream?.close();
    stream = null;
}

// --- actions ---------------------------------------------------------------------------------------------------

let token = "", wanted = "", wantedBody;

function ask(why) {
    if (why) byId("ask-why").textContent = why;
    byId("token").value = "";
    byId("ask").showModal();
    byId("token").focus();
}

async function act(address, body) {
    wanted = address;
    wantedBody = body;
    if (!token) { ask(); return; }
    refuse("");
    // A header value is a byte string: encode the token as UTF-8, one character per byte.
    const bytes = String.fromCharCode(...new TextEncoder().encode(token));
    try {
        const answer = await fetch(address, { method: "POST", body, headers: { authorization: `Bearer ${bytes}` } });
        if (answer.status === 401) { token = ""; ask(TEXTS.wrong); return; }
        if (!answer.ok) refuse((await answer.json()).error);
    } catch {
        refuse(TEXTS.silent);
    }
    refreshSoon(0);
}

function refuse(text) {
    byId("refused").hidden = !text;
    byId("refused").textContent = text && tell(TEXTS.refused, text);
}

byId("ask").querySelector("form").addEventListener("submit", () => {
    token = byId("token").value.trim();
    byId("token").value = "";
    if (token) act(wanted, wantedBody);
});
byId("ask-not").addEventListener("click", () => byId("ask").close());
// The event arrives after the dialog has closed. If the dialog is open again by then, keep what the user typed.
byId("ask").addEventListener("close", () => { if (!byId("ask").open) byId("token").value = ""; });

// --- start -----------------------------------------------------------------------------------------------------

// A plan asks registries, which can take long.
document.addEventListener("click", (event) => { if (event.target.closest("[data-slow]")) speak(byId("link").textContent = TEXTS.planning); });
byId("zone").textContent = Intl.DateTimeFormat().resolvedOptions().timeZone;
ready(document);
setInterval(() => tellTimes(document), 15000);
document.addEventListener("visibilitychange", () => {
    if (document.hidden) { disconnect(); return; }
    connect();
    refreshSoon(0);
});
addEventListener("pagehide", disconnect);
addEventListener("pageshow", connect);
connect();
refreshSoon(document.querySelector("main[data-again]") ? 700 : IDLE_SECONDS * 1000);
