// Ties map, gallery and table together: all three show the cases that pass the filters, and any of them opens one.
(function () {
  "use strict";

  const PAGE_ROWS = 25;
  const TABLE_FACTS = 8; // columns; all that is known of a case stands beside the map
  const EXAMPLES = 24; // of a kind, in the gallery, before more are asked for
  const DEGREES = 1e-6; // outlines are integers of this
  const BOX_M = 30; // about a truck's box: where it takes NEAR_PX on the screen, boxes replace marks
  const NEAR_PX = 12;
  const HIDDEN_FIRST = new Set(["TN"]); // what was rightly left out is not what people look for
  const REACH_PX = 15; // of an arrow, from the middle of its mark
  const TOUCH_PX = 5; // beside a line that still hits it
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const { compare, make, sortBy } = window.truckscape;
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const element = (id) => document.getElementById(id);
  const world = read("map-data");
  const data = read("case-data");

  // ---- map ---------------------------------------------------------------------------------------------

  const map = L.map("map", {
    renderer: L.canvas({ tolerance: TOUCH_PX }), zoomSnap: 0.25, maxZoom: 21, zoomAnimation: !calm, fadeAnimation: !calm, inertia: !calm,
  });
  map.attributionControl.setPrefix("Leaflet").addAttribution(make("span", { textContent: world.attribution }).outerHTML);
  const narrow = element("map").clientWidth < 600;
  L.control.scale({ imperial: false, position: narrow ? "topleft" : "bottomleft" }).addTo(map);
  const control = L.control.layers(null, null, { collapsed: narrow }).addTo(map);
  const extent = L.latLngBounds([]);
  const asText = (text) => make("span", { textContent: text }).innerHTML;

  for (const { name, image, shown, opacity } of world.images) {
    const bounds = L.latLngBounds(image.south_west, image.north_east);
    const layer = L.imageOverlay(image.uri, bounds, { opacity, className: image.sharp ? "sharp" : "", alt: name });
    if (shown) layer.addTo(map);
    control.addOverlay(layer, asText(name));
    extent.extend(bounds);
  }
  for (const { name, geojson, shown } of world.layers) {
    const layer = L.geoJSON(geojson, {
      style: (feature) => ({ color: feature.properties.colour, weight: 3, fillOpacity: 0.2 }),
      onEachFeature: (feature, shape) => shape.bindPopup(() => popup(feature.properties.facts), { maxWidth: 320 }),
    });
    layer.on("add", () => layer.bringToBack()); // or it would cover the marks
    if (shown) layer.addTo(map);
    control.addOverlay(layer, asText(name));
    if (!world.images.length) extent.extend(layer.getBounds());
  }

  function popup(facts) {
    const table = make("table");
    for (const [name, value] of Object.entries(facts)) {
      table.append(make("tr", {}, make("th", { scope: "row", textContent: name }), make("td", { textContent: value })));
    }
    return table;
  }

  // Shapes tell kinds apart without colour; the page's legend draws the same (parts.html.j2).
  const MARKS = {
    circle: (c, x, y, r) => c.arc(x, y, r, 0, 2 * Math.PI),
    ring: (c, x, y, r) => c.arc(x, y, r, 0, 2 * Math.PI),
    square: (c, x, y, r) => c.rect(x - r, y - r, 2 * r, 2 * r),
    diamond: (c, x, y, r) => path(c, [[x, y - 1.3 * r], [x + 1.3 * r, y], [x, y + 1.3 * r], [x - 1.3 * r, y]]),
    triangle: (c, x, y, r) => path(c, [[x, y - 1.3 * r], [x + 1.3 * r, y + r], [x - 1.3 * r, y + r]]),
    cross: (c, x, y, r) => {
      c.moveTo(x - r, y - r); c.lineTo(x + r, y + r); c.moveTo(x + r, y - r); c.lineTo(x - r, y + r);
    },
  };

  function path(context, corners, closed = true) {
    corners.forEach(([x, y], first) => (first ? context.lineTo(x, y) : context.moveTo(x, y)));
    if (closed) context.closePath();
  }

  // Draws a heading as an arrow from the middle of a mark, an axis as two lines through it.
  function drawDirection(context, { x, y }, { bearing, hasFront, fillColor }) {
    context.save();
    context.translate(x, y);
    context.rotate((bearing * Math.PI) / 180);
    context.beginPath();
    if (hasFront) {
      path(context, [[0, 0], [0, -REACH_PX]]);
      path(context, [[-4, 6 - REACH_PX], [0, -REACH_PX], [4, 6 - REACH_PX]], false);
    } else {
      for (const side of [-2.5, 2.5]) path(context, [[side, -0.8 * REACH_PX], [side, 0.8 * REACH_PX]]);
    }
    for (const [width, colour] of [[hasFront ? 4 : 3, "#0f172a"], [hasFront ? 2 : 1.4, fillColor]]) {
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.stroke();
    }
    context.restore();
  }

  // A marker of the canvas that is drawn as a shape with its direction; Leaflet itself knows circles only.
  const Mark = L.CircleMarker.extend({
    _updateBounds() {
      L.CircleMarker.prototype._updateBounds.call(this);
      const reach = L.point(REACH_PX + 3, REACH_PX + 3);
      this._pxBounds = L.bounds(this._point.subtract(reach), this._point.add(reach));
    },
    _updatePath() {
      const { _ctx: context, _drawing: drawing } = this._renderer;
      if (!drawing || this._empty()) return;
      const { shape, fillColor, bearing } = this.options;
      if (bearing !== null) drawDirection(context, this._point, this.options);
      if (!shape) return;
      const open = shape === "ring" || shape === "cross";
      context.beginPath();
      MARKS[shape](context, this._point.x, this._point.y, this._radius);
      context.lineWidth = open ? 4 : 1;
      context.strokeStyle = open ? "#0f172a" : "#fff";
      context.fillStyle = fillColor;
      if (!open) context.fill();
      context.stroke();
      if (open) {
        context.lineWidth = 2;
        context.strokeStyle = fillColor;
        context.stroke();
      }
    },
  });

  // ---- cases -------------------------------------------------------------------------------------------

  function known(coded, row) {
    const value = coded.codes ? coded.names[coded.codes[row]] : coded.values[row];
    return value === undefined ? null : value;
  }

  function outline([lon, lat, ...rest]) {
    const corners = [[lat * DEGREES, lon * DEGREES]];
    for (let i = 0; i < rest.length; i += 2) corners.push([(lat + rest[i + 1]) * DEGREES, (lon + rest[i]) * DEGREES]);
    return corners;
  }

  function caseOf(row) {
    const corners = outline(data.outlines[row]);
    const middle = (axis) => {
      const along = corners.map((corner) => corner[axis]);
      return (Math.min(...along) + Math.max(...along)) / 2;
    };
    return {
      row,
      kind: data.kinds[data.kind[row]],
      cause: data.causes[data.cause[row]] ?? null,
      score: data.score[row],
      bearing: data.bearings[row],
      hasFront: Boolean(data.has_front[row]),
      id: data.id[row],
      corners,
      centre: [middle(0), middle(1)],
    };
  }

  const cases = data ? data.id.map((_, row) => caseOf(row)) : [];
  let visible = cases;
  let opened = null;
  let opener = null;

  // ---- marks and boxes ---------------------------------------------------------------------------------

  const marks = L.layerGroup();
  const boxes = L.layerGroup();
  const highlight = L.layerGroup().addTo(map);

  function markOf(each) {
    // What was rightly left out is not what people look for first.
    const radius = each.kind.key === "TN" ? 2.5 : 4.5;
    each.mark ??= new Mark(each.centre, { radius, shape: each.kind.shape, weight: 1, ...directionOf(each) })
      .on("click", () => open(each));
    return each.mark;
  }

  function directionOf({ bearing, hasFront, kind }) {
    return { bearing, hasFront, fillColor: kind.colour };
  }

  function isNear() {
    const metres = (156543 * Math.cos((map.getCenter().lat * Math.PI) / 180)) / 2 ** map.getZoom();
    return BOX_M / metres >= NEAR_PX;
  }

  // Beside the box, where it hides no pixel of the truck: to the right of the direction of travel.
  function arrowBeside(each) {
    const [pixels, right] = [map.latLngToLayerPoint(each.centre), ((each.bearing + 90) * Math.PI) / 180];
    const corners = each.corners.map((corner) => map.latLngToLayerPoint(corner));
    const away = Math.max(...corners.map((corner) => corner.distanceTo(pixels))) + 8;
    const at = pixels.add([away * Math.sin(right), -away * Math.cos(right)]);
    return new Mark(map.layerPointToLatLng(at), { radius: 1, interactive: false, ...directionOf(each) });
  }

  // From afar a truck is a mark; from near its box can be seen, and a mark would hide the pixels.
  function drawCases() {
    boxes.clearLayers();
    if (!isNear()) {
      map.addLayer(marks);
      return;
    }
    map.removeLayer(marks);
    const view = map.getBounds().pad(0.2);
    for (const each of visible) {
      if (!view.contains(each.centre)) continue;
      const { colour, shape } = each.kind;
      L.polygon(each.corners, {
        color: colour, weight: 3, fillOpacity: 0.02, dashArray: shape === "triangle" || shape === "ring" ? "6 4" : null,
      }).on("click", () => open(each)).addTo(boxes);
      if (each.bearing !== null) arrowBeside(each).addTo(boxes);
    }
    map.addLayer(boxes);
  }

  // ---- one case ----------------------------------------------------------------------------------------

  const panel = element("case");
  const examples = new Map(); // those that came with the page, by row

  function listed(terms, term, value) {
    terms.append(make("dt", { textContent: term }), make("dd", { textContent: value }));
  }

  const picture = (each) => examples.get(each.row)?.querySelector("img").src ?? data.chips[each.row];

  function title(each) {
    const name = each.kind.name[0].toUpperCase() + each.kind.name.slice(1);
    return each.score === null ? name : `${name}, score ${each.score.toFixed(2)}`;
  }

  function step(text, by) {
    const next = visible[visible.indexOf(opened) + by];
    return make("button", { type: "button", textContent: text, disabled: !next, onclick: () => open(next, panel) });
  }

  // Opens a case in the panel beside the map; `from`, where the focus is to return to, is given by keyboard or list.
  function open(each, from = null) {
    if (from && from !== panel) opener = from;
    opened = each;
    const uri = picture(each);
    const facts = make("dl");
    for (const fact of data.facts) {
      const value = known(fact, each.row);
      if (value !== null) listed(facts, fact.name, fact.unit === "°" ? `${value}°` : `${value} ${fact.unit}`.trim());
    }
    listed(facts, "latitude, longitude", each.centre.map((degrees) => degrees.toFixed(5)).join(", "));
    listed(facts, "id", each.id);
    panel.style.setProperty("--tone", each.kind.colour);
    panel.replaceChildren(
      make("h3", { id: "case-title", textContent: title(each) }),
      uri ? make("img", { src: uri, width: 246, height: 120, alt: "Left in true colour, right red less blue" })
        : make("p", { className: "note", textContent: "This page holds no picture of it." }),
      make("p", { className: "why", textContent: each.cause ? `Likely cause: ${each.cause}` : "" }),
      make("div", { className: "steps" }, step("Previous", -1), step("Next", 1),
        make("button", { type: "button", textContent: "Close", onclick: close })),
      facts,
    );
    panel.hidden = false;
    map.invalidateSize();
    highlight.clearLayers();
    L.circleMarker(each.centre, { radius: 16, color: "#fff", weight: 5, fill: false, interactive: false }).addTo(highlight);
    L.circleMarker(each.centre, { radius: 16, color: "#0f172a", weight: 2, fill: false, interactive: false }).addTo(highlight);
    map.setView(each.centre, from ? Math.max(map.getZoom(), 14) : map.getZoom(), { animate: !calm });
    for (const row of element("case-table").tBodies[0].rows) row.classList.toggle("open", row.dataset.case === String(each.row));
    if (from) {
      panel.focus({ preventScroll: true });
      (narrow ? panel : element("map")).scrollIntoView({ block: narrow ? "nearest" : "center" });
    }
  }

  function close() {
    if (!opened) return;
    opened = null;
    panel.hidden = true;
    highlight.clearLayers();
    map.invalidateSize();
    for (const row of document.querySelectorAll("#case-table .open")) row.classList.remove("open");
    (opener ?? element("map")).focus();
    opener = null;
  }

  // ---- table -------------------------------------------------------------------------------------------

  const columns = !data ? [] : [
    { name: "kind", value: (each) => each.kind.name },
    ...(data.causes.length ? [{ name: "likely cause", value: (each) => each.cause }] : []),
    { name: "score", number: true, value: (each) => each.score, text: (value) => value.toFixed(2) },
    ...data.facts.filter((fact) => !fact.name.endsWith(" id")).slice(0, TABLE_FACTS).map((fact) => ({
      name: fact.unit ? `${fact.name}, ${fact.unit}` : fact.name,
      number: !fact.codes && fact.values.some((value) => typeof value === "number"),
      value: (each) => known(fact, each.row),
    })),
  ];
  let order = null; // [column, direction], or null for the order of the data
  let rows = PAGE_ROWS;

  function cell(column, each) {
    const value = column.value(each);
    const text = value === null ? "" : column.text ? column.text(value) : String(value);
    return make("td", { className: column.number ? "number" : "", textContent: text });
  }

  function tableRow(each) {
    const button = make("button", { type: "button", textContent: each.row + 1, ariaLabel: `Open case ${each.row + 1}` });
    button.addEventListener("click", () => open(each, button));
    const made = make("tr", { className: each === opened ? "open" : "" }, make("th", { scope: "row" }, button));
    made.dataset.case = each.row;
    made.append(...columns.map((column) => cell(column, each)));
    return made;
  }

  function drawTable() {
    element("case-table").tBodies[0].replaceChildren(...visible.slice(0, rows).map(tableRow));
    const more = visible.length - rows;
    element("more").hidden = more <= 0;
    element("more").textContent = `Show ${Math.min(more, 4 * PAGE_ROWS)} more of ${more.toLocaleString("en")}`;
  }

  function sortVisible() {
    if (!order) return;
    const [column, direction] = order;
    const text = (value) => (typeof value === "string" ? value.toLowerCase() : value);
    visible = [...visible].sort((a, b) => compare(text(column.value(a)), text(column.value(b)), direction));
  }

  // ---- filters -----------------------------------------------------------------------------------------

  const form = element("filters");

  const checkedKinds = () => new Set(Array.from(form.querySelectorAll("#kinds input:checked"), (box) => box.value));

  function passes() {
    const kinds = checkedKinds();
    const cause = element("cause").value;
    const least = Number(element("least").value);
    const most = Number(element("most").value);
    return (each) =>
      kinds.has(each.kind.key) &&
      (cause === "" || each.cause === cause) &&
      (each.score === null || (each.score >= least - 1e-9 && each.score <= most + 1e-9));
  }

  // The page's own examples that pass, and in place of those that don't, others whose pictures it holds.
  function filterGallery() {
    const kinds = checkedKinds();
    for (const group of document.querySelectorAll("#gallery .kind")) {
      const most = Number(group.dataset.most ?? EXAMPLES);
      const passing = visible.filter((each) => each.kind.key === group.dataset.kind && picture(each));
      const own = passing.filter((each) => examples.has(each.row));
      const others = passing.filter((each) => !examples.has(each.row)).slice(0, Math.max(0, most - own.length));
      const shown = [...own, ...others].sort((a, b) => a.row - b.row);
      group.hidden = !kinds.has(group.dataset.kind);
      group.querySelector(".chips").replaceChildren(...shown.map((each) => examples.get(each.row) ?? example(each)));
      group.querySelector(".none").hidden = shown.length > 0;
      const more = group.querySelector(".more");
      more.hidden = shown.length === passing.length;
      more.firstElementChild.textContent = `Show all ${passing.length.toLocaleString("en")} pictures`;
      more.firstElementChild.onclick = () => {
        group.dataset.most = data.id.length;
        filterGallery();
        (group.querySelectorAll(".chips button")[shown.length] ?? group).focus();
      };
    }
  }

  function example(each) {
    const image = make("img", { src: data.chips[each.row], width: 246, height: 120, alt: title(each) });
    const button = make("button", { type: "button" }, image);
    button.addEventListener("click", () => open(each, button));
    const said = each.score === null ? each.id : `score ${each.score.toFixed(2)}`;
    const item = make("li", {}, button, make("p", {}, make("b", { textContent: said }), ` ${each.cause ?? ""}`));
    item.dataset.case = each.row;
    return item;
  }

  function update() {
    element("least-out").value = Number(element("least").value).toFixed(2);
    element("most-out").value = Number(element("most").value).toFixed(2);
    visible = cases.filter(passes());
    sortVisible();
    marks.clearLayers();
    for (const each of visible) marks.addLayer(markOf(each));
    drawCases();
    filterGallery();
    rows = PAGE_ROWS;
    drawTable();
    const without = visible.filter((each) => each.score === null).length;
    element("shown").textContent =
      `${visible.length.toLocaleString("en")} of ${cases.length.toLocaleString("en")} cases are shown` +
      (without ? `; ${without.toLocaleString("en")} of them have no score, whatever the slider says.` : ".");
  }

  function shapeOf({ shape, colour }) {
    const canvas = make("canvas", { width: 28, height: 28, className: "shape" });
    canvas.setAttribute("aria-hidden", "true");
    const context = canvas.getContext("2d");
    context.scale(2, 2);
    MARKS[shape](context, 7, 7, 4.5);
    const open = shape === "ring" || shape === "cross";
    context.strokeStyle = open ? colour : "#0f172a";
    context.lineWidth = open ? 2 : 0.8;
    context.fillStyle = colour;
    if (!open) context.fill();
    context.stroke();
    return canvas;
  }

  function startFilters() {
    data.kinds.forEach((kind, number) => {
      const count = data.kind.filter((each) => each === number).length.toLocaleString("en");
      const first = !HIDDEN_FIRST.has(kind.key);
      const box = make("input", { type: "checkbox", value: kind.key, checked: first, defaultChecked: first });
      element("kinds").append(make("label", {}, box, shapeOf(kind), `${kind.name} (${count})`));
    });
    element("cause").append(make("option", { value: "", textContent: "any" }));
    for (const cause of [...data.causes].sort()) element("cause").append(make("option", { value: cause, textContent: cause }));
    element("cause-field").hidden = !data.causes.length;
    const scores = data.score.filter((score) => score !== null);
    const low = scores.reduce((least, score) => Math.min(least, score), 1);
    for (const slider of [element("least"), element("most")]) slider.min = Math.floor(low * 100) / 100;
    element("least").defaultValue = element("least").min;
    element("least").value = element("least").min;
    // However fast a slider moves, a frame is drawn once.
    let waiting = false;
    form.addEventListener("input", () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        update();
      });
    });
    form.addEventListener("reset", () => setTimeout(update));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
  }

  function startLists() {
    for (const item of document.querySelectorAll(".chips [data-case]")) {
      examples.set(Number(item.dataset.case), item);
      const button = item.querySelector("button");
      button.disabled = false;
      button.addEventListener("click", () => open(cases[Number(item.dataset.case)], button));
    }
    const headings = element("case-table").tHead.rows[0];
    headings.append(make("th", { scope: "col", textContent: "case" }));
    for (const column of columns) {
      const heading = make("th", { scope: "col", className: column.number ? "number" : "", textContent: column.name });
      headings.append(heading);
      sortBy(heading, (direction) => {
        order = [column, direction];
        sortVisible();
        drawTable();
      });
    }
    element("more").addEventListener("click", () => {
      rows += 4 * PAGE_ROWS;
      drawTable();
    });
    element("cases").hidden = false;
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") close();
    });
  }

  if (!world.images.length) for (const each of cases) extent.extend(each.centre);
  if (extent.isValid()) map.fitBounds(extent);
  else map.setView([0, 0], 1);
  if (data) {
    startFilters();
    startLists();
    map.on("moveend", drawCases);
    update();
  }
})();
