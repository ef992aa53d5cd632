"use strict";
// Without this script, all trials are open. It opens and closes them, filters and sorts them, copies commands, and shows
// times in the reader's time zone.
(() => {
  const form = document.getElementById("filter");
  const search = document.getElementById("search");
  const shown = document.getElementById("shown");
  const noMatch = document.getElementById("no-match");
  const trials = [...document.querySelectorAll(".trial")];
  const byId = new Map(trials.map((trial) => [trial.id, trial]));
  const rows = [...document.querySelectorAll(".grid tbody tr")].map((row) => ({
    row,
    trials: [...row.querySelectorAll(".mark")].map((mark) => byId.get(mark.hash.slice(1))),
  }));
  const texts = new Map();

  // A closed trial can still be found by the browser's own search, which opens it.
  function setOpen(trial, state) {
    const more = trial.querySelector(".more div");
    if (state) more.removeAttribute("hidden");
    else more.setAttribute("hidden", "until-found");
    trial.querySelector(".toggle").setAttribute("aria-expanded", String(state));
  }

  const isOpen = (trial) => trial.querySelector(".toggle").getAttribute("aria-expanded") === "true";

  function textOf(trial) {
    if (!texts.has(trial)) texts.set(trial, trial.textContent.toLowerCase());
    return texts.get(trial);
  }

  function filter() {
    const outcomes = new Set([...form.querySelectorAll("[name=outcome]:checked")].map((box) => box.value));
    const agent = document.getElementById("by-agent")?.value ?? "";
    const reason = document.getElementById("by-reason")?.value ?? "";
    const kind = document.getElementById("by-kind")?.value ?? "";
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const trial of trials) {
      const data = trial.dataset;
      const matches = outcomes.has(data.outcome) && (!agent || data.agent === agent)
        && (!reason || data.cause === reason)
        && (!kind || (data.kind ?? "").split(" ").includes(kind))
        && words.every((word) => textOf(trial).includes(word));
      trial.hidden = !matches;
      count += matches;
    }
    for (const { row, trials } of rows) row.hidden = trials.every((trial) => trial.hidden);
    noMatch.hidden = count > 0 || trials.length === 0;
    const number = (value) => value.toLocaleString("en");
    shown.textContent = `${number(count)} of ${number(trials.length)} trials shown`;
  }

  function open(id) {
    const trial = byId.get(id);
    if (!trial) return;
    trial.hidden = false;
    setOpen(trial, true);
    trial.querySelector(".toggle").focus({ preventScroll: true });
    trial.scrollIntoView();
  }

  function setAll(state) {
    for (const trial of trials) if (!trial.hidden) setOpen(trial, state);
  }

  // A row is a table row, or a tbody of them. Rows without a value come last in either direction.
  function sort(table, column, head) {
    const descending = head.getAttribute("aria-sort") === "ascending";
    const several = table.tBodies.length > 1;
    const units = [...(several ? table.tBodies : table.tBodies[0].rows)].map((unit) => {
      const cell = (several ? unit.rows[0] : unit).cells[column];
      const text = cell.dataset.value ?? cell.textContent.trim();
      return { unit, text, number: text === "" ? NaN : Number(text) };
    });
    const compare = new Intl.Collator("en", { numeric: true }).compare;
    units.sort((a, b) => {
      if (a.text === "" || b.text === "") return (a.text === "") - (b.text === "");
      const order = Number.isNaN(a.number) || Number.isNaN(b.number) ? compare(a.text, b.text) : a.number - b.number;
      return descending ? -order : order;
    });
    for (const each of head.parentElement.cells) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    (several ? table : table.tBodies[0]).append(...units.map(({ unit }) => unit));
  }

  function makeSortable(table) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, column, head));
      head.append(button);
    });
  }

  function select(element) {
    const range = document.createRange();
    range.selectNodeContents(element);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  }

  async function copy(button) {
    const code = button.parentElement.querySelector("code");
    let copied = false;
    try {
      await navigator.clipboard.writeText(code.textContent);
      copied = true;
    } catch {
      // Browsers may refuse this for files; the selection works everywhere, if only by hand.
      select(code);
      copied = document.execCommand("copy");
      if (copied) getSelection().removeAllRanges();
    }
    button.textContent = copied ? "Copied" : "Selected";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  }

  for (const trial of trials) {
    trial.querySelector(".more div").addEventListener("beforematch", () => setOpen(trial, true));
  }
  for (const table of document.querySelectorAll(".sortable")) makeSortable(table);
  document.querySelector(".trials thead th")?.setAttribute("aria-sort", "ascending");
  for (const time of document.querySelectorAll("time")) {
    const local = new Date(time.dateTime);
    if (!Number.isNaN(local.valueOf())) {
      time.title = time.textContent;
      time.textContent = local.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    }
  }
  for (const button of document.querySelectorAll(".copy")) button.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("open").addEventListener("click", () => setAll(true));
  document.getElementById("close").addEventListener("click", () => setAll(false));
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    // Needed if the link points to the current hash: that fires no hashchange event.
    if (link && byId.has(link.hash.slice(1))) setTimeout(open, 0, link.hash.slice(1));
    const button = event.target.closest("button");
    if (button?.classList.contains("copy")) copy(button);
    const row = event.target.closest(".row");
    // Selecting text in a row does not open it.
    if (row && !link && (button || getSelection().isCollapsed)) {
      const trial = row.parentElement;
      setOpen(trial, !isOpen(trial));
    }
  });
  addEventListener("hashchange", () => open(location.hash.slice(1)));
  form.hidden = false;
  filter();
  open(location.hash.slice(1));
})();
