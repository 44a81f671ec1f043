// The console's one script: forms and buttons that call the JSON API, and the page that keeps itself up to date.
// It renders nothing: a fresh page is fetched, and its parts marked data-refresh replace those on the screen.
"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const csrf = $('meta[name="csrf-token"]')?.content ?? "";
  const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

  class Refused extends Error {
    constructor(status, problem) {
      const parts = [problem.detail, problem.fix].filter(Boolean).map(sentence);
      super(parts.length ? `${parts.join(". ")}.` : `The server answered ${status}.`);
      this.status = status;
      this.code = problem.code ?? "";
    }
  }

  async function call(method, path, body) {
    const headers = { Accept: "application/json" };
    if (csrf) headers["X-CSRF-Token"] = csrf;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let answer;
    try {
      answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
    } catch {
      throw new Refused(0, { detail: "the server does not answer", fix: "check the connection and try again" });
    }
    const text = await answer.text();
    let content = {};
    try { content = text ? JSON.parse(text) : {}; } catch { /* an answer that is not JSON has no words for us */ }
    if (!answer.ok) throw new Refused(answer.status, content);
    return content;
  }

  // --- theme ----------------------------------------------------------------------------------------------------

  const root = document.documentElement;
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  for (const button of document.querySelectorAll("[data-theme-toggle]")) {
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      try { localStorage.setItem("limen-theme", root.dataset.theme); } catch { /* for this page only */ }
    });
  }

  // --- the end of the session -----------------------------------------------------------------------------------

  let over = false;
  function sessionOver() {
    if (over) return;
    over = true;
    source?.close();
    for (const open of document.querySelectorAll("dialog[open]")) open.close();
    $("main")?.replaceChildren(); // what was shown is no longer this person's to see
    const dialog = $("#ended");
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.showModal();
    document.title = "Session ended – Limen";
  }

  // --- staying up to date ---------------------------------------------------------------------------------------

  const state = $("[data-stream]");
  let source, retry, hiddenSince, refreshing = false, again = false;

  function show(name, text) {
    if (!state) return;
    state.dataset.stream = name;
    $("[data-stream-text]", state).textContent = text;
  }

  async function refresh() {
    if (refreshing) { again = true; return; }
    refreshing = true;
    try {
      do {
        again = false;
        const answer = await fetch(location.href, { redirect: "manual", headers: { Accept: "text/html" } });
        if (answer.type === "opaqueredirect" || answer.status === 401) return sessionOver();
        if (answer.ok && !over) replaceParts(new DOMParser().parseFromString(await answer.text(), "text/html"));
      } while (again && !over);
    } catch { /* the stream's own error handling says that the server is gone */ } finally { refreshing = false; }
  }

  function replaceParts(fresh) {
    for (const old of document.querySelectorAll("[data-refresh]")) {
      const next = fresh.getElementById(old.id);
      if (!next || next.innerHTML === old.innerHTML) continue;
      const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
      old.replaceWith(document.importNode(next, true));
      if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    }
  }

  function listen() {
    clearTimeout(retry);
    source?.close();
    source = new EventSource("/events");
    source.addEventListener("open", () => { show("open", "Live"); refresh(); });
    source.addEventListener("changed", refresh);
    source.addEventListener("beat", refresh);
    source.addEventListener("ended", sessionOver);
    source.addEventListener("error", lost);
  }

  async function lost() {
    if (over) return;
    show("lost", "Reconnecting");
    if (source.readyState !== EventSource.CLOSED) return; // it connects again by itself
    try { await call("GET", "/api/v1/me"); } catch (problem) {
      if (problem.status === 401) return sessionOver();
    }
    retry = setTimeout(listen, 3000);
  }

  if (state) {
    listen();
    // A browser opens few connections to one server: a tab that nobody looks at gives its own back.
    document.addEventListener("visibilitychange", () => {
      clearTimeout(hiddenSince);
      if (document.hidden) {
        hiddenSince = setTimeout(() => { source.close(); clearTimeout(retry); show("paused", "Paused"); }, 60_000);
      } else if (source.readyState === EventSource.CLOSED && !over) listen();
    });
    addEventListener("pagehide", () => source.close());
    addEventListener("pageshow", (event) => { if (event.persisted && !over) listen(); });
  }

  // --- acts -----------------------------------------------------------------------------------------------------

  const confirmation = $("#confirm");
  let act, opener;

  function ask(button) {
    act = button.dataset;
    opener = button.id;
    $("[data-title]", confirmation).textContent = act.title;
    $("[data-text]", confirmation).textContent = act.text;
    $("[data-go]", confirmation).textContent = act.verb;
    $("[data-go]", confirmation).classList.toggle("danger", act.tone === "danger");
    $("[data-reason]", confirmation).hidden = act.reason === undefined;
    $("[data-error]", confirmation).textContent = "";
    $("form", confirmation).reset();
    confirmation.showModal();
  }

  async function carryOut(event) {
    event.preventDefault();
    const [method, path] = act.act.split(" ");
    const reason = new FormData(event.target).get("reason").trim();
    const go = $("[data-go]", confirmation);
    go.disabled = true;
    try {
      await call(method, path, act.reason === undefined ? undefined : { reason });
      confirmation.close();
      tell(act.done);
      await refresh();
      document.getElementById(opener)?.focus();
    } catch (problem) {
      if (problem.code === "session-ended" || problem.code === "unauthenticated") return sessionOver();
      $("[data-error]", confirmation).textContent = problem.message;
    } finally { go.disabled = false; }
  }

  let toastTimer;
  function tell(text) {
    const toast = $("#toast");
    toast.textContent = text;
    toast.hidden = false;
    clearTimeout(toastTimer);
    toastTimer = setTimeout(() => { toast.hidden = true; }, 5000);
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.act) ask(button);
    else if (button.dataset.cancel !== undefined) confirmation.close();
    else if (button.dataset.copy !== undefined) copy(button);
    else if (button.dataset.signOut !== undefined) signOut(button);
  });
  if (confirmation) $("form", confirmation).addEventListener("submit", carryOut);

  async function copy(button) {
    try {
      await navigator.clipboard.writeText($("code", button.parentElement).textContent.trim());
      tell("Copied");
    } catch { tell("The browser did not allow copying"); }
  }

  async function signOut(button) {
    button.disabled = true;
    over = true; // the stream's end is expected now
    source?.close();
    try { await call("POST", "/api/v1/sign-out"); } catch { /* it has ended already */ }
    location.assign("/sign-in");
  }

  // --- the way in -----------------------------------------------------------------------------------------------

  const signIn = (fields) => call("POST", "/api/v1/sign-in", { ...fields, cookie: true });
  const entries = {
    "sign-in": async (fields) => { await signIn(fields); location.replace("/"); },
    "set-up": async ({ again: repeated, ...fields }, form) => {
      if (fields.password !== repeated) throw new Error("The two passwords are not the same.");
      const person = await call("POST", "/api/v1/setup", { ...fields, token: form.dataset.token });
      if (!form.dataset.tenant) return location.replace("/sign-in");
      try { await signIn({ email: person.email, password: fields.password }); } catch {
        return location.replace("/sign-in"); // the link is used up; the password stands
      }
      return location.replace("/");
    },
  };

  const entry = $("form[data-form]");
  entry?.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = $("button[type=submit]", entry);
    const error = $("[data-error]", entry);
    error.textContent = "";
    button.disabled = true;
    try {
      await entries[entry.dataset.form](Object.fromEntries(new FormData(entry)), entry);
    } catch (problem) {
      error.textContent = problem.message;
      button.disabled = false;
    }
  });
})();
