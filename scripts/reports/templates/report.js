"use strict";
// Hover, sort and filter. Everything is readable without; nothing is loaded.
const tip = document.getElementById("tip");

function showTip(mark, x, y) {
  tip.textContent = mark.dataset.tip;
  tip.hidden = false;
  const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
  tip.style.left = `${Math.max(8, Math.min(x + 12, room)) + window.scrollX}px`;
  tip.style.top = `${y + 16 + window.scrollY}px`;
}

function hideTip() { tip.hidden = true; }

// A title inside a mark becomes our tooltip, which also the keyboard reaches: focus the chart, then arrow keys.
for (const chart of document.querySelectorAll("svg")) {
  const marks = [...chart.querySelectorAll(".tip")];
  for (const mark of marks) {
    const title = mark.querySelector("title");
    mark.dataset.tip = title.textContent;
    title.remove();
    mark.addEventListener("pointermove", (event) => showTip(mark, event.clientX, event.clientY));
    mark.addEventListener("pointerleave", hideTip);
  }
  if (!marks.length) continue;
  let current = -1;
  chart.setAttribute("tabindex", "0");
  chart.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    marks[current]?.classList.remove("current");
    current = Math.min(Math.max(current + step, 0), marks.length - 1);
    marks[current].classList.add("current");
    const box = marks[current].getBoundingClientRect();
    showTip(marks[current], box.left, box.bottom - 12);
  });
  chart.addEventListener("blur", () => { marks[current]?.classList.remove("current"); hideTip(); });
}

const PAGE = 100;

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const names = heads.map((head) => head.textContent.toLowerCase());
  const body = table.tBodies[0];
  const shown = [...body.rows].map((row) => [...row.cells].map((cell) => cell.textContent));
  const data = document.getElementById(table.dataset.rows);
  const decimals = names.map((_, i) => (shown[0]?.[i].split(".")[1] ?? "").length);
  const rows = data
    ? JSON.parse(data.textContent).map((values) => ({ values, texts: values.map(format) }))
    : shown.map((texts) => ({ values: texts.map(parse), texts }));
  const first = shown.length;
  let limit = first, sortedBy = -1, direction = 1, wanted = rows;

  function parse(text) {
    const value = Number(text.replaceAll(",", "").replace(" %", ""));
    return text === "" || text === "\u2013" ? null : Number.isNaN(value) ? text : value;
  }
  function format(value, i) {
    if (value === null) return "\u2013";
    if (names[i] === "cold") return value ? "cold" : "warm";
    const options = { minimumFractionDigits: decimals[i], maximumFractionDigits: decimals[i], useGrouping: i > 0 };
    return value.toLocaleString("en", options);
  }
  function matches({ values, texts }, term) {
    const [, name, sign, bound] = /^(.*?)\s*(<=|>=|<|>|=)\s*([\d.]+)$/.exec(term) ?? [];
    if (sign) {
      const value = values[names.findIndex((column) => column.startsWith(name))];
      if (typeof value !== "number") return false;
      const difference = value - Number(bound);
      return (sign.includes("=") && difference === 0) || (sign[0] === ">" ? difference > 0 : sign[0] === "<" && difference < 0);
    }
    if (/^\d+$/.test(term) && typeof values[0] === "number") return values[0] === Number(term);
    return texts.some((text) => text.toLowerCase().includes(term));
  }
  function compare(one, other) {
    const [a, b] = [one.values[sortedBy], other.values[sortedBy]];
    if (a === null || b === null) return (a === null) - (b === null);
    return direction * (a > b ? 1 : a < b ? -1 : 0);
  }
  function draw() {
    const ordered = sortedBy < 0 ? wanted : [...wanted].sort(compare);
    body.replaceChildren(...ordered.slice(0, limit).map(({ texts }) => {
      const row = document.createElement("tr");
      row.append(...texts.map((text, i) => {
        const cell = document.createElement(i ? "td" : "th");
        if (!i) cell.scope = "row";
        cell.className = heads[i].className;
        cell.textContent = text;
        return cell;
      }));
      return row;
    }));
    const num = Math.min(limit, wanted.length);
    count.textContent = `${num.toLocaleString("en")} of ${wanted.length.toLocaleString("en")} rows`;
    more.hidden = num >= wanted.length;
  }

  heads.forEach((head, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      direction = sortedBy === i ? -direction : -1;
      sortedBy = i;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      draw();
    });
  });

  const bar = document.createElement("div");
  bar.className = "filter";
  const label = document.createElement("label");
  const input = document.createElement("input");
  input.type = "search";
  input.id = `${table.dataset.rows}-filter`;
  label.htmlFor = input.id;
  label.textContent = "Filter";
  const hint = document.createElement("small");
  hint.textContent = table.dataset.hint;
  const count = document.createElement("output");
  const more = document.createElement("button");
  more.type = "button";
  more.textContent = `show ${PAGE} more`;
  more.addEventListener("click", () => { limit += PAGE; draw(); });
  input.addEventListener("input", () => {
    const term = input.value.trim().toLowerCase();
    limit = first;
    wanted = term ? rows.filter((row) => matches(row, term)) : rows;
    draw();
  });
  bar.append(label, input, hint, count, more);
  table.closest(".scroll").before(bar);
  draw();
}
