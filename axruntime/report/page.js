"use strict";
const facts = JSON.parse(document.getElementById("data").textContent);
const layers = facts.layers, total = Math.max(1, facts.total);
const by = id => document.getElementById(id);
const COLORS = ["#4878a8", "#e08a3c", "#6aa84f", "#b3588c", "#8c7ab8", "#c9a227", "#4fa3a5", "#b85450", "#7f7f7f", "#a0785a"];
const WHERE = { AIPU: "#54616e", CPU: "#d1495b", view: "#b8bec6" };
const number = n => n.toLocaleString("en-US");
const bytes = n => n < 1024 ? n + " B" : n < 1048576 ? (n / 1024).toFixed(1) + " KiB" : (n / 1048576).toFixed(2) + " MiB";
const percent = x => (100 * x).toFixed(1) + " %";
const short = (text, length) => text.length <= length ? text : text.slice(0, length / 2 | 0) + "…" + text.slice(text.length - (length / 2 | 0));
let chosen = -1;
const charts = [];

function element(tag, text, parent) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}
function key(parent, color, text) {
  const square = element("span", "", parent);
  square.className = "key";
  square.style.background = color;
  parent.append(text);
}

/* ---- head */
by("name").textContent = facts.name;
for (const line of facts.summary) element("li", line, by("summary"));
for (const line of facts.help.slice(1)) element("li", line.trim(), by("help"));
if (facts.help.length < 2) element("li", "No single layer or memory stands out.", by("help"));
facts.limits.forEach(([what, share], i) => {
  const part = element("div", "", by("limits"));
  part.style.background = COLORS[i % COLORS.length];
  part.style.flex = share;
  key(by("limit-keys"), COLORS[i % COLORS.length], `${what} ${percent(share)}`);
});
const limitColor = new Map(facts.limits.map(([what], i) => [what, COLORS[i % COLORS.length]]));

/* ---- what is under the pointer */
const tip = by("tip");
function show(event, text) {
  tip.style.display = text ? "block" : "none";
  if (!text) return;
  tip.textContent = text;
  tip.style.left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8) + "px";
  tip.style.top = Math.min(event.clientY + 14, window.innerHeight - tip.offsetHeight - 8) + "px";
}
function described(i) {
  const l = layers[i], lines = [l.name, `${l.operator}, result ${l.result}`];
  if (l.where === "CPU") lines.push("on the CPU: " + l.note);
  if (l.where === "view") lines.push("another view of memory, costs nothing");
  if (l.cycles) lines.push(`${number(l.cycles)} cycles, ${percent(l.cycles / total)} of the frame` + (l.limit ? `; limited by ${l.limit}` : ""));
  if (l.macs) lines.push(`${number(l.macs)} multiply-adds, ${percent(l.utilisation)} of the arrays' peak`);
  return lines.join("\n");
}

/* ---- a canvas that can be dragged and zoomed; x = screen * 1/k + at.x */
class Chart {
  constructor(id, options) {
    this.canvas = by(id);
    this.context = this.canvas.getContext("2d");
    Object.assign(this, options);
    this.at = { x: 0, y: 0 };
    this.kx = this.ky = 1;
    this.drawn = false;
    charts.push(this);
    this.canvas.addEventListener("wheel", e => this.zoom(e), { passive: false });
    this.canvas.addEventListener("pointerdown", e => { this.from = { x: e.offsetX, y: e.offsetY, moved: false }; this.canvas.setPointerCapture(e.pointerId); });
    this.canvas.addEventListener("pointermove", e => this.move(e));
    this.canvas.addEventListener("pointerup", e => { if (this.from && !this.from.moved) choose(this.hit(e.offsetX, e.offsetY), this); this.from = null; });
    this.canvas.addEventListener("pointerleave", e => show(e, ""));
    this.canvas.addEventListener("dblclick", () => { this.fit(true); this.draw(); });
  }
  size() {
    const scale = window.devicePixelRatio || 1;
    this.width = this.canvas.clientWidth;
    this.height = this.canvas.clientHeight;
    this.canvas.width = this.width * scale;
    this.canvas.height = this.height * scale;
    this.context.setTransform(scale, 0, 0, scale, 0, 0);
  }
  zoom(e) {
    if (!this.drag) return;
    e.preventDefault();
    const factor = Math.exp(-e.deltaY * 0.0015);
    this.at.x += (e.offsetX - this.left) / this.kx * (1 - 1 / factor);
    this.kx *= factor;
    if (this.both) { this.at.y += e.offsetY / this.ky * (1 - 1 / factor); this.ky *= factor; }
    this.limit();
    this.draw();
  }
  limit() {
    if (this.both) return;
    this.kx = Math.min(Math.max(this.kx, (this.width - this.left) / total), 10);
    this.at.x = Math.max(0, Math.min(this.at.x, total - (this.width - this.left) / this.kx));
  }
  move(e) {
    if (this.from && this.drag) {
      const dx = e.offsetX - this.from.x, dy = e.offsetY - this.from.y;
      if (!this.from.moved && Math.abs(dx) + Math.abs(dy) < 4) return;
      this.at.x -= dx / this.kx;
      if (this.both) this.at.y -= dy / this.ky;
      this.from = { x: e.offsetX, y: e.offsetY, moved: true };
      this.limit();
      this.draw();
    } else {
      const i = this.hit(e.offsetX, e.offsetY);
      show(e, i < 0 ? "" : this.text ? this.text(i, e) : described(i));
    }
  }
  draw() {
    const c = this.context;
    c.clearRect(0, 0, this.width, this.height);
    c.font = "12px system-ui, sans-serif";
    c.textBaseline = "middle";
    this.paint(c);
  }
  sx(x) { return (x - this.at.x) * this.kx + this.left; }
  sy(y) { return (y - this.at.y) * this.ky; }
}
function choose(i, from) {
  chosen = i;
  for (const chart of charts) {
    if (i >= 0 && chart !== from && chart.reveal) chart.reveal(i);
    if (chart.drawn) chart.draw();
  }
}

/* ---- the graph */
const W = 190, H = 40, DX = 214, DY = 62;
const columns = layers.map(l => l.place[0]);
const box = i => [layers[i].place[0] * DX, layers[i].place[1] * DY];
const most = Math.max(1, ...layers.map(l => l.cycles));
const matches = new Set();
const graph = new Chart("graph", {
  left: 0, both: true, drag: true,
  fit(whole) {
    if (!layers.length) return;
    const lowest = Math.min(...columns) * DX, width = Math.max(...columns) * DX + W - lowest;
    const height = Math.max(...layers.map(l => l.place[1])) * DY + H;
    const all = Math.min(this.width / (width + 40), this.height / (height + 40));
    this.kx = this.ky = whole ? all : Math.max(all, Math.min(1, this.width / (width + 40), 1), 0.55);
    this.at.x = whole ? lowest - (this.width / this.kx - width) / 2 : -(this.width / this.kx - W) / 2;
    this.at.y = whole ? (height - this.height / this.ky) / 2 : -20;
  },
  hit(x, y) {
    const gx = x / this.kx + this.at.x, gy = y / this.ky + this.at.y;
    return layers.findIndex((l, i) => { const [a, b] = box(i); return gx >= a && gx <= a + W && gy >= b && gy <= b + H; });
  },
  reveal(i) {
    const [x, y] = box(i);
    this.kx = this.ky = Math.max(this.kx, 0.8);
    this.at = { x: x + W / 2 - this.width / this.kx / 2, y: y + H / 2 - this.height / this.ky / 2 };
  },
  paint(c) {
    const k = this.kx;
    c.lineWidth = 1;
    for (const [a, b] of facts.edges) {
      const [ax, ay] = box(a), [bx, by_] = box(b);
      const x0 = this.sx(ax + W / 2), y0 = this.sy(ay + H), x1 = this.sx(bx + W / 2), y1 = this.sy(by_);
      if (Math.max(y0, y1) < 0 || Math.min(y0, y1) > this.height) continue;
      c.strokeStyle = a === chosen || b === chosen ? "#111" : "#aaa";
      const far = layers[b].place[1] - layers[a].place[1] > 1 && ax === bx ? (W / 2 + 14) * k : 0;
      c.beginPath();
      c.moveTo(x0, y0);
      if (far) c.bezierCurveTo(x0 + far * 1.3, y0 + 20 * k, x1 + far * 1.3, y1 - 20 * k, x1, y1);
      else c.bezierCurveTo(x0, y0 + 18 * k, x1, y1 - 18 * k, x1, y1);
      c.stroke();
    }
    layers.forEach((l, i) => {
      const [x, y] = box(i), px = this.sx(x), py = this.sy(y);
      if (px > this.width || py > this.height || px + W * k < 0 || py + H * k < 0) return;
      c.globalAlpha = matches.size && !matches.has(i) ? 0.2 : 1;
      c.fillStyle = WHERE[l.where];
      c.fillRect(px, py, W * k, H * k);
      c.fillStyle = "rgba(255,255,255,0.85)";
      c.fillRect(px + 3 * k, py + 3 * k, (W - 6) * k, (H - 6) * k);
      c.fillStyle = limitColor.get(l.limit) || "#ccc";
      c.fillRect(px + 3 * k, py + (H - 7) * k, (W - 6) * k * l.cycles / most, 4 * k);
      if (i === chosen) { c.strokeStyle = "#111"; c.lineWidth = 2; c.strokeRect(px - 1, py - 1, W * k + 2, H * k + 2); c.lineWidth = 1; }
      if (k > 0.45) {
        c.fillStyle = "#222";
        c.font = `${11 * Math.min(k, 1.4)}px system-ui, sans-serif`;
        c.fillText(short(l.name, 30), px + 8 * k, py + 12 * k, (W - 14) * k);
        c.fillStyle = "#555";
        c.fillText(`${l.operator}  ${l.result}` + (l.cycles ? `  ${percent(l.cycles / total)}` : ""), px + 8 * k, py + 25 * k, (W - 14) * k);
      }
      c.globalAlpha = 1;
    });
  },
});
key(by("graph-keys"), WHERE.AIPU, "on the AIPU");
key(by("graph-keys"), WHERE.CPU, "on the CPU");
key(by("graph-keys"), WHERE.view, "another view of memory, which costs nothing. The bar in a layer is its share of the time, in the colour of what limits it.");
let hits = [], turn = 0;
function search(next) {
  const wanted = by("search").value.trim().toLowerCase();
  if (!next) {
    hits = wanted ? layers.map((l, i) => i).filter(i => `${layers[i].name} ${layers[i].operator} ${layers[i].where}`.toLowerCase().includes(wanted)) : [];
    turn = 0;
    matches.clear();
    hits.forEach(i => matches.add(i));
  } else if (hits.length) turn = (turn + 1) % hits.length;
  by("found").textContent = !wanted ? "" : hits.length ? `${turn + 1} of ${hits.length}; Enter shows the next` : "no layer";
  choose(hits.length ? hits[turn] : -1);
}
by("search").addEventListener("input", () => search(false));
by("search").addEventListener("keydown", e => { if (e.key === "Enter") search(true); });

/* ---- charts over time */
function ticks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(f => f * power).find(s => s >= raw);
  const found = [];
  for (let t = Math.ceil(low / step) * step; t <= high; t += step) found.push(t);
  return found;
}
function timeAxis(chart, c, bottom) {
  const ms = facts.clock_hz / 1e3, low = chart.at.x / ms, high = (chart.at.x + (chart.width - chart.left) / chart.kx) / ms;
  c.fillStyle = "#666";
  c.textAlign = "center";
  for (const t of ticks(low, high, 8)) {
    const x = chart.sx(t * ms);
    c.fillRect(x, bottom, 1, 4);
    c.fillText(+t.toPrecision(6) + " ms", Math.min(x, chart.width - 26), bottom + 12);
  }
  c.textAlign = "left";
}
function fitTime() { this.at = { x: 0, y: 0 }; this.kx = (this.width - this.left) / total; }
const ROW = 17;
by("gantt").height = Math.max(60, facts.rows.length * ROW + 26);
by("gantt").style.height = by("gantt").height + "px";
const layerColor = i => `hsl(${i * 47 % 360} 55% 55%)`;
/* first span of a row that ends after x */
function firstAfter(spans, x) {
  let low = 0, high = spans.length / 3;
  while (low < high) { const middle = (low + high) >> 1; if (spans[3 * middle + 2] < x) low = middle + 1; else high = middle; }
  return low;
}
const gantt = new Chart("gantt", {
  left: 92, both: false, drag: true, fit: fitTime,
  hit(x, y) {
    const row = facts.rows[Math.floor(y / ROW)], at = (x - this.left) / this.kx + this.at.x;
    if (!row || x < this.left) return -1;
    const i = firstAfter(row.spans, at);
    return 3 * i < row.spans.length && row.spans[3 * i + 1] <= at ? row.spans[3 * i] : -1;
  },
  reveal(i) {
    const l = layers[i], span = (this.width - this.left) / this.kx;
    if (l.at < this.at.x || l.at + l.cycles > this.at.x + span) this.at.x = l.at + l.cycles / 2 - span / 2;
    this.limit();
  },
  paint(c) {
    facts.rows.forEach((row, r) => {
      const y = r * ROW;
      const spans = row.spans, end = this.at.x + (this.width - this.left) / this.kx;
      c.fillStyle = r % 2 ? "#fff" : "#f6f7f9";
      c.fillRect(0, y, this.width, ROW);
      let drawnTo = -1;
      for (let i = 3 * firstAfter(spans, this.at.x); i < spans.length && spans[i + 1] <= end; i += 3) {
        const x = Math.max(this.left, this.sx(spans[i + 1])), x1 = this.sx(spans[i + 2]);
        if (x1 < drawnTo + 0.4 && spans[i] !== chosen) continue;
        c.fillStyle = chosen < 0 || spans[i] === chosen ? layerColor(spans[i]) : "#d4d8dd";
        c.fillRect(x, y + 2, Math.max(0.7, x1 - x), ROW - 4);
        drawnTo = x1;
        if (x1 - x > 70) { c.fillStyle = "#111"; c.fillText(short(layers[spans[i]].name, (x1 - x) / 6.5 | 0), x + 3, y + ROW / 2, x1 - x - 6); }
      }
      c.fillStyle = "#333";
      c.fillText(row.title, 4, y + ROW / 2);
    });
    timeAxis(this, c, facts.rows.length * ROW);
  },
});
const PANELS = ["L1", "L2", "DDR"];
const panel = 100;
const peaks = PANELS.map((_, p) => Math.max(1, ...layers.map(l => l.memory[p])));
function layerAt(x) {
  let low = 0, high = layers.length - 1;
  while (low < high) { const middle = (low + high + 1) >> 1; if (layers[middle].at <= x) low = middle; else high = middle - 1; }
  return low;
}
const memory = new Chart("memory", {
  left: 92, both: false, drag: true, fit: fitTime, reveal: gantt.reveal,
  hit(x, y) { return !layers.length || x < this.left || y > 3 * panel ? -1 : layerAt((x - this.left) / this.kx + this.at.x); },
  text(i) { return `${layers[i].name}\n` + PANELS.map((name, p) => `${name} ${bytes(layers[i].memory[p])}`).join(", "); },
  paint(c) {
    PANELS.forEach((name, p) => {
      const y = p * panel, limit = facts.capacity[p], shown = peaks[p] * 1.5 > limit ? limit * 1.06 : peaks[p] * 1.12;
      const top = value => y + panel - 8 - (panel - 20) * value / shown;
      layers.forEach((l, i) => {
        const x = Math.max(this.left, this.sx(l.at)), x1 = this.sx(l.at + l.cycles);
        if (x1 < this.left || x > this.width) return;
        c.fillStyle = i === chosen ? "#111" : COLORS[p];
        c.fillRect(x, top(l.memory[p]), Math.max(0.5, x1 - x), y + panel - 8 - top(l.memory[p]));
      });
      if (limit <= shown) { c.fillStyle = "#c33"; c.fillRect(this.left, top(limit), this.width, 1); }
      c.fillStyle = "#333";
      c.fillText(name, 4, y + 20);
      c.fillText("peak " + bytes(peaks[p]), 4, y + 38, 86);
      c.fillText("of " + bytes(limit), 4, y + 54, 86);
    });
    timeAxis(this, c, 3 * panel);
  },
});

/* ---- roofline, both axes logarithmic */
const roofline = new Chart("roofline", {
  left: 60, both: false, drag: false,
  fit() {},
  points() {
    const m = +by("roof").value;
    return layers.map((l, i) => ({ i, x: l.macs / l.moved[m], y: l.macs / l.cycles })).filter(p => isFinite(p.x) && isFinite(p.y) && p.x > 0 && p.y > 0);
  },
  scale() {
    const points = this.points(), [peak, ...rates] = facts.roofs, ridge = peak / rates[+by("roof").value];
    const xs = points.map(p => p.x).concat(ridge * 4, ridge / 16), ys = points.map(p => p.y).concat(peak * 2);
    const low = Math.log10(Math.min(...xs)) - 0.1, high = Math.log10(Math.max(...xs)) + 0.1;
    const bottom = Math.log10(Math.min(...ys, peak / 100)) - 0.1, top = Math.log10(Math.max(...ys));
    return {
      points, low, high, bottom, top,
      px: x => this.left + (this.width - this.left) * (Math.log10(x) - low) / (high - low),
      py: y => (this.height - 34) * (1 - (Math.log10(y) - bottom) / (top - bottom)),
    };
  },
  hit(x, y) {
    const s = this.scale();
    const near = s.points.map(p => [Math.hypot(s.px(p.x) - x, s.py(p.y) - y), p.i]).sort((a, b) => a[0] - b[0])[0];
    return near && near[0] < 10 ? near[1] : -1;
  },
  paint(c) {
    const s = this.scale(), [peak, ...rates] = facts.roofs, rate = rates[+by("roof").value];
    c.fillStyle = "#666";
    for (let d = Math.ceil(s.low); d <= s.high; d++) { const x = s.px(10 ** d); c.fillRect(x, 0, 0.5, this.height - 34); c.fillText(number(10 ** d), x + 3, this.height - 26); }
    for (let d = Math.ceil(s.bottom); d <= s.top; d++) { const y = s.py(10 ** d); c.fillRect(this.left, y, this.width, 0.5); c.fillText(number(10 ** d), 4, y); }
    c.fillText("products for each byte that moves", this.left + 6, this.height - 10);
    c.fillText("products a cycle", 4, 10);
    c.strokeStyle = "#c33";
    c.lineWidth = 2;
    c.beginPath();
    c.moveTo(s.px(10 ** s.low), s.py(10 ** s.low * rate));
    c.lineTo(s.px(peak / rate), s.py(peak));
    c.lineTo(this.width, s.py(peak));
    c.stroke();
    c.lineWidth = 1;
    for (const p of s.points) {
      const l = layers[p.i];
      c.beginPath();
      c.arc(s.px(p.x), s.py(p.y), 3 + 9 * Math.sqrt(l.cycles / most), 0, 7);
      c.globalAlpha = 0.6;
      c.fillStyle = p.i === chosen ? "#111" : limitColor.get(l.limit) || "#888";
      c.fill();
      c.globalAlpha = 1;
      c.strokeStyle = "#fff";
      c.stroke();
    }
  },
});
by("roof").addEventListener("change", () => roofline.draw());

/* ---- the table */
const noisy = layers.some(l => l.noise !== null);
const COLUMNS = [
  ["layer", l => l.name, l => l.name], ["operator", l => l.operator, l => l.operator], ["runs on", l => l.where, l => l.where],
  ["result", l => l.result, l => l.result],
  ["multiply-adds", l => l.macs, l => number(l.macs)], ["cycles", l => l.cycles, l => number(l.cycles)],
  ["of the frame", l => l.cycles, l => percent(l.cycles / total)], ["limited by", l => l.limit, l => l.limit],
  ["of the arrays", l => l.utilisation, l => l.macs ? percent(l.utilisation) : ""],
  ["DDR moved", l => l.moved[0], l => bytes(l.moved[0])], ["L2 moved", l => l.moved[1], l => bytes(l.moved[1])],
  ["L1", l => l.memory[0], l => bytes(l.memory[0])],
  ...(noisy ? [["noise", l => l.noise || 0, l => l.noise ? percent(l.noise) : ""]] : []),
];
const order = layers.map((l, i) => i);
let sorted = -1;
function fill() {
  const rows = order.map(i => {
    const row = element("tr");
    for (const [, , text] of COLUMNS) element("td", text(layers[i]), row);
    row.title = layers[i].note;
    row.addEventListener("click", () => { choose(i); by("graph").scrollIntoView({ block: "center" }); });
    return row;
  });
  document.querySelector("#layers tbody").replaceChildren(...rows);
}
const head = element("tr", "", document.querySelector("#layers thead"));
COLUMNS.forEach(([title, value], n) => element("th", title, head).addEventListener("click", () => {
  const sign = sorted === n ? 1 : -1;
  sorted = sorted === n ? -1 : n;
  order.sort((a, b) => { const x = value(layers[a]), y = value(layers[b]); return (x < y ? -1 : x > y ? 1 : a - b) * (typeof x === "number" ? sign : -sign); });
  fill();
}));
fill();

function all() { for (const chart of charts) { chart.size(); if (!chart.drawn) chart.fit(false); chart.drawn = true; if (!chart.both && chart.drag) chart.limit(); chart.draw(); } }
for (const chart of charts) chart.canvas.style.height = chart.canvas.height + "px";
window.addEventListener("resize", all);
all();
