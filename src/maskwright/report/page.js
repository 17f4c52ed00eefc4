"use strict";
// Tables sort by the column whose head is pressed: numbers downwards first, text upwards.
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, k) => head.firstElementChild.addEventListener("click", () => {
    const text = body.rows.length > 0 && body.rows[0].cells[k].tagName === "TH";
    const was = head.getAttribute("aria-sort");
    const up = was === "none" ? text : was === "descending";
    heads.forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = (row) => row.cells[k].dataset.value;
    const order = text ? (a, b) => value(a).localeCompare(value(b)) : (a, b) => value(a) - value(b);
    body.append(...[...body.rows].sort((a, b) => (up ? 1 : -1) * order(a, b)));
  }));
}
// The values of a chart at the place of the pointer.
for (const chart of document.querySelectorAll(".chart")) {
  const svg = chart.querySelector("svg"), bands = chart.querySelectorAll(".band");
  if (!bands.length) continue;
  const mark = document.createElementNS("http://www.w3.org/2000/svg", "line");
  mark.setAttribute("class", "mark");
  mark.setAttribute("y1", bands[0].getAttribute("y"));
  mark.setAttribute("y2", +bands[0].getAttribute("y") + +bands[0].getAttribute("height"));
  const tip = document.createElement("div");
  tip.className = "tip";
  const hide = () => { mark.remove(); tip.remove(); };
  bands.forEach((band) => {
    const words = band.firstElementChild.textContent;
    band.firstElementChild.remove();
    band.addEventListener("pointerenter", () => {
      mark.setAttribute("x1", band.dataset.x);
      mark.setAttribute("x2", band.dataset.x);
      svg.append(mark);
      tip.textContent = words;
      chart.append(tip);
      const scale = svg.clientWidth / svg.viewBox.baseVal.width, x = band.dataset.x * scale;
      tip.style.left = Math.max(0, x + 12 + tip.offsetWidth > chart.clientWidth ? x - 12 - tip.offsetWidth : x + 12) + "px";
      tip.style.top = svg.offsetTop + 14 + "px";
    });
  });
  svg.addEventListener("pointerleave", hide);
}
