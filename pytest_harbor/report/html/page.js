"use strict";
// The page is complete without this script, which adds the filter and opens the trial that a link points to.
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

  function textOf(trial) {
    if (!texts.has(trial)) texts.set(trial, trial.textContent.toLowerCase());
    return texts.get(trial);
  }

  function filter() {
    const outcomes = new Set([...form.querySelectorAll("[name=outcome]:checked")].map((box) => box.value));
    const agent = document.getElementById("by-agent")?.value ?? "";
    const kind = document.getElementById("by-kind")?.value ?? "";
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const trial of trials) {
      const data = trial.dataset;
      const matches = outcomes.has(data.outcome) && (!agent || data.agent === agent)
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
    const details = trial.querySelector("details");
    details.open = true;
    details.querySelector("summary").focus({ preventScroll: true });
    trial.scrollIntoView();
  }

  function setAll(state) {
    for (const trial of trials) if (!trial.hidden) trial.querySelector("details").open = state;
  }

  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("open").addEventListener("click", () => setAll(true));
  document.getElementById("close").addEventListener("click", () => setAll(false));
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    // Needed if the link points to the current hash: that fires no hashchange event.
    if (link && byId.has(link.hash.slice(1))) setTimeout(open, 0, link.hash.slice(1));
  });
  addEventListener("hashchange", () => open(location.hash.slice(1)));
  form.hidden = false;
  filter();
  open(location.hash.slice(1));
})();
