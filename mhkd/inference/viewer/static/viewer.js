// Pan and zoom are OpenSeadragon's. Here: the boxes over it, the list beside it, and what the two have in common.
"use strict";

const $ = (id) => document.getElementById(id);
const ORDERS = {
  score: (a, b) => b.score - a.score,
  doubt: (a, b) => a.score - b.score,
  large: (a, b) => b.diameter_um - a.diameter_um,
  small: (a, b) => a.diameter_um - b.diameter_um,
};
const AROUND = 3; // how many times the box's longer side is seen after a click

const overlay = $("overlay");
const state = { slide: null, visible: [], selected: null, hidden: new Set(), request: 0 };

const viewer = OpenSeadragon({
  element: $("view"),
  drawer: "canvas",
  showNavigationControl: false,
  showNavigator: true,
  navigatorPosition: "TOP_RIGHT",
  navigatorSizeRatio: 0.15,
  animationTime: 0.4,
  maxZoomPixelRatio: 4,
  visibilityRatio: 0.5,
  crossOriginPolicy: false,
  gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
});

async function getJson(address) {
  let response;
  try {
    response = await fetch(address);
  } catch {
    throw new Error("The server does not answer: it may have been stopped.");
  }
  const body = await response.json().catch(() => ({ error: response.statusText }));
  if (!response.ok) throw new Error(body.error);
  return body;
}

function say(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
}

async function start() {
  try {
    const slides = await getJson("slides.json");
    slides.forEach((slide, index) => {
      const words = `${slide.slide} (${slide.total})${slide.there ? "" : ", slide not given"}`;
      $("slide").add(new Option(words, index));
    });
    const wanted = slides.findIndex((slide) => slide.name === decodeURIComponent(location.hash.slice(1)));
    $("slide").value = wanted >= 0 ? wanted : Math.max(0, slides.findIndex((slide) => slide.there));
    await openSlide(Number($("slide").value));
  } catch (error) {
    say(error.message);
  }
}

async function openSlide(index) {
  const request = ++state.request; // a slow answer must not replace a later choice
  viewer.close();
  Object.assign(state, { slide: null, visible: [], selected: null, hidden: new Set() });
  for (const id of ["list", "classes", "warnings"]) $(id).replaceChildren();
  $("counts").textContent = "";
  say("");
  let slide;
  try {
    slide = await getJson(`slides/${index}.json`);
  } catch (error) {
    if (request === state.request) say(error.message);
    draw();
    return;
  }
  if (request !== state.request) return;
  state.slide = slide;
  document.title = `${slide.slide}: viewer`;
  history.replaceState(null, "", `#${encodeURIComponent(slide.name)}`);
  $("warnings").replaceChildren(...slide.warnings.map((text) => element("div", { className: "warning" }, text)));
  $("threshold").min = slide.score_thresh;
  $("threshold").value = slide.score_thresh;
  listClasses();
  listDetections(index);
  viewer.open({
    width: slide.width,
    height: slide.height,
    tileSize: slide.tile_px,
    tileOverlap: slide.overlap_px,
    minLevel: slide.min_level,
    maxLevel: slide.max_level,
    getTileUrl: (level, x, y) => `slides/${index}/tiles/${level}/${x}_${y}.jpg?v=${slide.version}`,
  });
  filter();
}

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function swatch(label) {
  const made = element("i", { className: "swatch" });
  made.style.background = state.slide.classes[label].color;
  return made;
}

function listClasses() {
  const { classes } = state.slide;
  if (classes.length < 2) return;
  $("classes").replaceChildren(
    ...classes.map((item, label) => {
      const box = element("input", { type: "checkbox", checked: true });
      box.addEventListener("change", () => {
        state.hidden[box.checked ? "delete" : "add"](label);
        filter();
      });
      return element("label", {}, box, " ", swatch(label), item.name);
    }),
  );
}

function listDetections(index) {
  const { detections, classes, version } = state.slide;
  detections.forEach((item, number) => {
    const picture = element("img", { loading: "lazy", alt: "" });
    picture.src = `slides/${index}/detections/${number}.jpg?v=${version}`;
    const words = `${item.score.toFixed(2)}, ${item.diameter_um.toFixed(0)} µm`;
    const text = element("span", {}, words, element("br", {}), swatch(item.label), classes[item.label].name);
    item.number = number;
    item.row = element("li", {}, picture, text);
    item.row.dataset.id = item.id;
    item.row.addEventListener("click", () => select(item, true));
  });
}

// What the slider, the classes and the order leave: the list, the boxes and the numbers follow.
function filter() {
  if (!state.slide) return;
  const least = Number($("threshold").value);
  const { detections, classes, searched_mm2: area } = state.slide;
  const shown = (item) => item.score >= least - 1e-9 && !state.hidden.has(item.label);
  const order = ORDERS[$("order").value];
  state.visible = detections.filter(shown).sort((a, b) => order(a, b) || a.number - b.number);
  $("list").replaceChildren(...state.visible.map((item) => item.row));
  if (state.selected && !state.visible.includes(state.selected)) select(null);
  const density = area > 0 ? `, ${(state.visible.length / area).toFixed(2)} per mm² of tissue` : "";
  $("counts").textContent = `${state.visible.length} of ${detections.length}${density}`;
  $("threshold-value").textContent = least.toFixed(2);
  draw();
}

function select(item, move) {
  if (state.selected) state.selected.row.removeAttribute("aria-current");
  state.selected = item;
  if (item) {
    item.row.setAttribute("aria-current", "true");
    item.row.scrollIntoView({ block: "nearest" });
    if (move && viewer.isOpen()) {
      const [x0, y0, x1, y1] = item.box;
      const side = AROUND * Math.max(x1 - x0, y1 - y0);
      const tiled = viewer.world.getItemAt(0);
      viewer.viewport.fitBounds(
        tiled.imageToViewportRectangle((x0 + x1 - side) / 2, (y0 + y1 - side) / 2, side, side),
      );
    }
  }
  draw();
}

// From the display frame of the slide to pixels of the page: page = offset + scale * slide.
function placement() {
  const tiled = viewer.world.getItemAt(0);
  if (!tiled) return null;
  const zero = tiled.imageToViewerElementCoordinates(new OpenSeadragon.Point(0, 0));
  const far = tiled.imageToViewerElementCoordinates(new OpenSeadragon.Point(1000, 0));
  return { x: zero.x, y: zero.y, scale: (far.x - zero.x) / 1000 };
}

function draw() {
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = overlay;
  if (overlay.width !== Math.round(width * ratio) || overlay.height !== Math.round(height * ratio)) {
    overlay.width = Math.round(width * ratio);
    overlay.height = Math.round(height * ratio);
  }
  const context = overlay.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const place = state.slide && placement();
  $("scale").hidden = !place;
  if (!place) return;
  drawScale(place.scale / state.slide.mpp);
  if (!$("boxes").checked) return;
  for (const item of state.visible) {
    const [x0, y0, x1, y1] = item.box;
    const box = [place.x + x0 * place.scale, place.y + y0 * place.scale, (x1 - x0) * place.scale, (y1 - y0) * place.scale];
    if (box[0] > width || box[1] > height || box[0] + box[2] < 0 || box[1] + box[3] < 0) continue;
    if (item === state.selected) {
      context.lineWidth = 7;
      context.strokeStyle = "#ffe14d";
      context.strokeRect(...box);
    }
    context.lineWidth = 2;
    context.strokeStyle = state.slide.classes[item.label].color;
    context.strokeRect(...box);
  }
}

// The longest of 1, 2 and 5 times a power of ten that is at most 160 pixels long.
function drawScale(pxPerUm) {
  const most = 160 / pxPerUm;
  const power = 10 ** Math.floor(Math.log10(most));
  const um = power * [5, 2, 1].find((step) => step * power <= most);
  $("scale").firstElementChild.style.width = `${um * pxPerUm}px`;
  $("scale").lastElementChild.textContent = um >= 1000 ? `${um / 1000} mm` : `${um} µm`;
}

function step(by) {
  if (!state.visible.length) return;
  const at = state.visible.indexOf(state.selected);
  const next = at < 0 ? 0 : Math.min(state.visible.length - 1, Math.max(0, at + by));
  select(state.visible[next], true);
}

$("slide").addEventListener("change", () => openSlide(Number($("slide").value)));
$("threshold").addEventListener("input", filter);
$("order").addEventListener("change", filter);
$("boxes").addEventListener("change", draw);
$("zoom-in").addEventListener("click", () => viewer.isOpen() && viewer.viewport.zoomBy(2));
$("zoom-out").addEventListener("click", () => viewer.isOpen() && viewer.viewport.zoomBy(0.5));
$("home").addEventListener("click", () => viewer.isOpen() && viewer.viewport.goHome());
$("list").addEventListener("keydown", (event) => {
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!by) return;
  event.preventDefault();
  step(by);
});

viewer.addHandler("canvas-click", (event) => {
  const place = state.slide && placement();
  if (!event.quick || !place) return;
  const x = (event.position.x - place.x) / place.scale;
  const y = (event.position.y - place.y) / place.scale;
  const size = ({ box: [x0, y0, x1, y1] }) => (x1 - x0) * (y1 - y0);
  const hit = state.visible
    .filter(({ box: [x0, y0, x1, y1] }) => x0 <= x && x <= x1 && y0 <= y && y <= y1)
    .sort((a, b) => size(a) - size(b))[0];
  select(hit || null, false);
});
viewer.addHandler("tile-load-failed", () => say("A part of the slide could not be read."));
for (const name of ["open", "update-viewport", "resize"]) viewer.addHandler(name, draw);
window.addEventListener("resize", draw);

start();
