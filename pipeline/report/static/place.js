// The page of a place: a map of roads by flow, a chart of the chosen road's dates, and tables of both.
(function () {
  "use strict";

  const ROWS = 40; // of the table of roads by date, before more are asked for
  const RATES = 25; // rows of a comparison
  const DEGREES = 1e-5;
  const DAY = 86400;
  const COLOURS = ["#0b6b62", "#b45309"]; // one a direction
  const { make } = window.truckscape;
  const data = JSON.parse(document.getElementById("place-data").textContent);
  const element = (id) => document.getElementById(id);
  const formats = [0, 1].map((digits) => new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
  const shown = (value, digits = 0) => (typeof value === "number" ? formats[digits].format(value) : value ?? "");
  const significant = (value, times = 1) => (typeof value === "number" ? String(Number((times * value).toPrecision(3))) : value ?? "");

  const head = (names) => make("tr", {}, ...names.map((name, i) => make("th", { scope: "col", className: i ? "number" : "", textContent: name })));
  const isWeekend = (day) => data.weekdays[day] === "Sat" || data.weekdays[day] === "Sun";
  const seconds = data.dates.map((date) => Date.parse(`${date}T00:00:00Z`) / 1000);
  const rowsOf = new Map(data.roads.map((each) => [each.road, []]));
  data.rows.forEach((row, index) => rowsOf.get(row.road)?.push(index));
  const isNews = ({ road, name }) => name && !road.includes(name) && !name.endsWith(` ${road}`); // as "Motorway A 2"
  const titleOf = (each) => (isNews(each) ? `${each.road}, ${each.name}` : each.road);

  // ---- map ---------------------------------------------------------------------------------------------

  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const map = L.map("map", { renderer: L.canvas({ tolerance: 6 }), zoomSnap: 0.25, zoomAnimation: !calm, fadeAnimation: !calm, inertia: !calm, scrollWheelZoom: false });
  map.attributionControl.setPrefix("Leaflet");
  L.control.scale({ imperial: false }).addTo(map);
  const extent = L.latLngBounds([]);

  function corners([lon, lat, ...steps]) {
    const line = [[lat * DEGREES, lon * DEGREES]];
    for (let i = 0; i < steps.length; i += 2) line.push([(lat += steps[i + 1]) * DEGREES, (lon += steps[i]) * DEGREES]);
    return line;
  }

  const layers = new Map();
  for (const each of data.roads) {
    if (!each.lines.length) continue;
    const layer = L.polyline(each.lines.map(corners), { color: each.colour, weight: each.width, dashArray: each.flow === null ? "3 5" : null });
    const text = each.flow === null ? `${titleOf(each)}: not searched` : `${titleOf(each)}: ${shown(each.flow)} trucks an hour`;
    layer.bindTooltip(() => make("span", { textContent: text }), { sticky: true }).on("click", () => choose(each.road)).addTo(map);
    extent.extend(layer.getBounds());
    layers.set(each.road, layer);
  }
  if (data.points) drawPoints();
  if (extent.isValid()) map.fitBounds(extent, { animate: false });
  else map.setView([0, 0], 1);

  // Detections of all dates, or of the chosen one.
  function drawPoints() {
    const { at, date, score, speed, again, areas } = data.points;
    for (const area of areas) {
      const outline = L.polygon(area.map(([lon, lat]) => [lat * DEGREES, lon * DEGREES]), { color: "#64748b", weight: 1.5, fill: false, interactive: false }).addTo(map);
      extent.extend(outline.getBounds());
    }
    const groups = new Map();
    let [lon, lat] = [0, 0];
    date.forEach((day, i) => {
      lon += at[2 * i];
      lat += at[2 * i + 1];
      const style = again[i] ? { radius: 6, color: "#b45309", weight: 2, fill: false } : { radius: 4, color: "#0b6b62", weight: 1, fillOpacity: 0.6 };
      const text = `${data.dates[day] ?? "unknown date"}: score ${score[i]} %${speed[i] === null ? "" : `, ${speed[i]} km/h`}${again[i] ? ", recurring" : ""}`;
      const point = L.circleMarker([lat * DEGREES, lon * DEGREES], style).bindTooltip(text);
      if (!groups.has(day)) groups.set(day, L.layerGroup());
      groups.get(day).addLayer(point);
    });
    const chosen = element("map-date");
    chosen.append(make("option", { value: "", textContent: "all dates" }),
      ...data.dates.map((name, i) => make("option", { value: i, textContent: `${name} ${data.weekdays[i]}` })));
    const show = () => groups.forEach((group, day) => (chosen.value === "" || day === Number(chosen.value) ? group.addTo(map) : group.remove()));
    chosen.addEventListener("change", show);
    show();
  }

  // ---- chart -------------------------------------------------------------------------------------------

  // Draws what uPlot does not: grey weekends behind the points, and the bars of the intervals.
  function weekends(u) {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.fillStyle = "#e8edf3";
    const [first, last] = [u.scales.x.min, u.scales.x.max];
    for (let day = Math.floor(first / DAY) * DAY; day <= last; day += DAY) {
      const weekday = new Date(day * 1000).getUTCDay();
      if (weekday % 6 || last - first > 400 * DAY) continue;
      const from = Math.max(u.valToPos(day - DAY / 2, "x", true), bbox.left);
      const to = Math.min(u.valToPos(day + DAY / 2, "x", true), bbox.left + bbox.width);
      if (to > from) ctx.fillRect(from, bbox.top, to - from, bbox.height);
    }
    ctx.restore();
  }

  function bars(lines) {
    return (u) => {
      const { ctx } = u;
      ctx.save();
      ctx.lineWidth = 1.5 * devicePixelRatio;
      lines.forEach(({ low, high }, number) => {
        ctx.strokeStyle = COLOURS[number];
        u.data[0].forEach((at, i) => {
          if (low[i] === null || high[i] === null) return;
          const x = u.valToPos(at, "x", true) + (lines.length > 1 ? (number ? 3 : -3) * devicePixelRatio : 0);
          ctx.beginPath();
          ctx.moveTo(x, u.valToPos(low[i], "y", true));
          ctx.lineTo(x, u.valToPos(Math.min(high[i], u.scales.y.max), "y", true));
          ctx.stroke();
        });
      });
      ctx.restore();
    };
  }

  // Points of the second direction stand beside those of the first, as their bars do.
  function points(number, of) {
    return (u, series) => {
      const { ctx } = u;
      ctx.save();
      ctx.fillStyle = COLOURS[number];
      u.data[0].forEach((at, i) => {
        const value = u.data[series][i];
        if (value === null) return;
        const x = u.valToPos(at, "x", true) + (of > 1 ? (number ? 3 : -3) * devicePixelRatio : 0);
        const [y, r] = [u.valToPos(value, "y", true), 4 * devicePixelRatio];
        ctx.beginPath();
        if (number) ctx.rect(x - r, y - r, 2 * r, 2 * r);
        else ctx.arc(x, y, r, 0, 2 * Math.PI);
        ctx.fill();
      });
      ctx.restore();
      return false;
    };
  }

  let plot = null;

  function draw(lines, unit) {
    plot?.destroy();
    const box = element("chart");
    const highest = Math.max(...lines.flatMap(({ value, high }) => value.map((v, i) => (v === null ? 0 : Math.min(high[i] ?? v, 4 * v + 40)))), 1);
    const pad = Math.max((seconds.at(-1) - seconds[0]) * 0.03, DAY);
    plot = new uPlot({
      width: Math.max(box.clientWidth - 8, 200),
      height: 300,
      tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "UTC"),
      scales: { x: { range: () => [seconds[0] - pad, seconds.at(-1) + pad] }, y: { range: () => [0, highest * 1.05] } },
      axes: [
        { values: (_, splits) => splits.map((at) => new Date(at * 1000).toISOString().slice(0, 10)), space: 90, incrs: [1, 2, 5, 7, 14, 28, 91, 182, 365].map((days) => days * DAY) },
        { label: unit, size: 60 },
      ],
      series: [
        { label: "date", value: (_, at) => (at === null ? "" : `${new Date(at * 1000).toISOString().slice(0, 10)} ${data.weekdays[seconds.indexOf(at)] ?? ""}`) },
        ...lines.map((line, number) => ({
          label: line.name, stroke: COLOURS[number], paths: () => null, points: { show: points(number, lines.length) },
          value: (_, v, s, i) => (v === null || i === null ? "" : `${shown(v, line.digits)} (${shown(line.low[i], line.digits)} to ${shown(line.high[i], line.digits)})`),
        })),
      ],
      cursor: { drag: { setScale: false } },
      hooks: { drawClear: [weekends], draw: [bars(lines)] },
    }, [seconds, ...lines.map((line) => line.value)], box);
    const canvas = box.querySelector("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${unit} by date; the same numbers are in the table below`);
    drawSeries(lines);
  }

  function drawSeries(lines) {
    const table = element("series").querySelector("table");
    table.tHead.replaceChildren(head(["date", ...lines.flatMap((line) => [line.name, "95 % interval"])]));
    table.tBodies[0].replaceChildren(...data.dates.map((date, i) => make("tr", {},
      make("th", { scope: "row", textContent: `${date} ${data.weekdays[i]}` }),
      ...lines.flatMap(({ value, low, high, digits }) => [
        make("td", { className: "number", textContent: shown(value[i], digits) }),
        make("td", { className: "number", textContent: value[i] === null ? "" : `${shown(low[i], digits)} to ${shown(high[i], digits)}` }),
      ]))));
  }

  new ResizeObserver(() => plot?.setSize({ width: Math.max(element("chart").clientWidth - 8, 200), height: 300 })).observe(element("chart"));

  // ---- the chosen road ---------------------------------------------------------------------------------

  const select = element("road") ?? make("select");
  const busiest = [...data.roads].reverse();
  select.append(make("option", { value: "", textContent: "all roads" }),
    ...busiest.map((each) => make("option", { value: each.road, textContent: titleOf(each) })));
  let marked = null;

  function choose(road) {
    select.value = road;
    marked?.remove();
    const each = data.roads.find((one) => one.road === road);
    if (!each) {
      const [name, unit] = data.points ? ["all detections", "square kilometres"] : ["all roads", "kilometres"];
      draw([{ name, digits: 1, ...data.totals }], `expected trucks on 100 ${data.points ? "km²" : "km"}`);
      element("said").textContent = `${name[0].toUpperCase()}${name.slice(1)}: expected trucks on 100 searched ${unit}.`;
      return;
    }
    const lines = rowsOf.get(road).slice(0, 2).map((row) => ({
      name: data.rows[row].direction, digits: 0,
      value: data.series.flow[row], low: data.series.flow_low[row], high: data.series.flow_high[row],
    }));
    draw(lines, "trucks an hour");
    const dates = data.dates.filter((_, i) => lines.some(({ value }) => value[i] !== null)).length;
    element("said").textContent = `${titleOf(each)}${each.road_class ? ` (${each.road_class})` : ""}: ${each.flow === null ? "not searched" : `${shown(each.flow)} trucks an hour on average in both directions, searched on ${dates} date${dates === 1 ? "" : "s"}`}.`;
    const layer = layers.get(road);
    if (layer) marked = L.polyline(layer.getLatLngs(), { color: "#d97706", weight: each.width + 6, opacity: 0.55, interactive: false }).addTo(map).bringToBack();
  }

  select.addEventListener("change", () => choose(select.value));

  // ---- roads by date -----------------------------------------------------------------------------------

  let rows = ROWS;
  const order = busiest.flatMap((each) => rowsOf.get(each.road));

  function drawDates() {
    const measure = element("measure").value;
    const digits = measure === "flow" ? 0 : 1;
    const table = element("date-table");
    const heading = head(["road", ...data.dates.map((date, i) => `${date} ${data.weekdays[i]}`)]);
    table.tHead.replaceChildren(heading);
    table.tBodies[0].replaceChildren(...order.slice(0, rows).map((row) => make("tr", {},
      make("th", { scope: "row", textContent: `${data.rows[row].road} ${data.rows[row].direction}` }),
      ...data.series[measure][row].map((value, i) => make("td", { className: isWeekend(i) ? "number weekend" : "number", textContent: shown(value, digits) })))));
    const more = order.length - rows;
    element("more-roads").hidden = more <= 0;
    element("more-roads").textContent = `Show ${Math.min(more, 2 * ROWS)} more of ${more}`;
  }

  element("measure")?.addEventListener("change", drawDates);
  element("more-roads")?.addEventListener("click", () => { rows += 2 * ROWS; drawDates(); });

  // ---- comparison --------------------------------------------------------------------------------------

  function compare() {
    const { first, second, changed, rows: tested, untested } = data.comparisons[element("pair").value];
    element("changed").textContent = data.points
      ? (tested.length ? `“${second}” ${changed ? "differs" : "does not differ"} from “${first}” by more than chance.` : "It can't be tested (no truck).")
      : `${changed} of ${tested.length} roads and directions changed from “${first}” to “${second}”, at a false discovery rate of ${100 * data.share} %. ${untested} can't be tested (no truck, or fewer than three dates).`;
    const table = element("rates");
    const [unit, times] = data.points ? ["on 100 km²", 100] : ["a km", 1];
    table.tHead.replaceChildren(head([data.points ? "where" : "road", `trucks ${unit}, ${first}`, `trucks ${unit}, ${second}`, "ratio", "95 % interval", "p", "p adjusted"]));
    table.tBodies[0].replaceChildren(...tested.slice(0, RATES).map(([row, one, other, ratio, low, high, p, adjusted]) => make("tr", { className: adjusted <= data.share ? "primary" : "" },
      make("th", { scope: "row", textContent: `${data.rows[row].road} ${data.rows[row].direction}` }),
      ...[significant(one, times), significant(other, times), significant(ratio), `${significant(low)} to ${significant(high)}`, significant(p), significant(adjusted)].map((textContent) => make("td", { className: "number", textContent })))));
    if (tested.length > RATES) table.tBodies[0].append(make("tr", {}, make("td", { colSpan: 7, textContent: `${tested.length - RATES} more with greater p-values are not shown.` })));
  }

  if (data.comparisons.length) {
    element("pair").append(...data.comparisons.map(({ first, second }, i) => make("option", { value: i, textContent: `${second} with ${first}` })));
    element("pair").addEventListener("change", compare);
    compare();
  }
  if (seconds.length) {
    choose("");
    if (!data.points) drawDates();
  }
  document.documentElement.dataset.readyMs = Math.round(performance.now());
})();
