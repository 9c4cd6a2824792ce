// Draws the state; holds none of its own.

import { CONFIDENCE, confidence, duration, eraSource, percent, summary, title } from "./words.js";

const SHOWN_BARS = 8;
const EMPTY_FILMS = 5;
const SHORT_ID = 12;

export const at = (id) => document.getElementById(id);

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Show the welcome, or the strip and the selected poster. */
export function drawPage(posters, selected, look) {
  at("welcome").hidden = posters.length > 0;
  at("work").hidden = at("add").hidden = posters.length === 0;
  document.title = selected ? `${selected.file.name} · Marquee` : "Marquee";
  drawStrip(posters, selected);
  if (selected) drawPoster(selected, look);
}

export function drawStrip(posters, selected) {
  const read = posters.filter(({ state }) => state === "done").length;
  at("progress").textContent = `${read} of ${posters.length} read`;
  const strip = at("strip");
  const tabs = posters.map((poster) => at(poster.id) ?? tab(poster));
  for (const [number, poster] of posters.entries()) {
    const chosen = poster === selected;
    const element = tabs[number];
    element.tabIndex = chosen ? 0 : -1;
    element.setAttribute("aria-selected", chosen);
    element.dataset.state = poster.state;
    element.querySelector(".says").textContent = tabWords(poster);
  }
  if (tabs.length !== strip.children.length || tabs.some((element) => !element.isConnected)) {
    const focused = document.activeElement;
    strip.replaceChildren(...tabs);
    if (strip.contains(focused)) focused.focus();
  }
}

function tab(poster) {
  const thumbnail = make("img", { src: poster.url, alt: "", width: 72, height: 108 });
  thumbnail.addEventListener("error", () => thumbnail.parentElement.classList.add("broken"));
  const element = make(
    "button",
    { type: "button", id: poster.id, title: poster.file.name },
    make("span", { className: "thumb" }, thumbnail),
    make("span", { className: "hidden-visually", textContent: `${poster.file.name}: ` }),
    make("span", { className: "says" }),
  );
  element.setAttribute("role", "tab");
  element.setAttribute("aria-controls", "reading");
  return element;
}

function tabWords({ state, prediction }) {
  if (prediction) return prediction.unsure ? `${prediction.genres[0]}?` : prediction.genres[0];
  return { waiting: "in line", asking: "reading", busy: "waiting", failed: "not read" }[state];
}

export function drawPoster(poster, look) {
  const { file, state, prediction } = poster;
  at("reading").dataset.state = state;
  at("reading").setAttribute("aria-busy", state !== "done" && state !== "failed");
  at("name").textContent = file.name;
  at("name").title = file.name;
  drawPicture(poster);
  drawBoard(poster);
  drawFailure(poster);
  drawBars(prediction);
  drawLook(poster, look);
  drawFacts(poster);
  drawFilms(poster);
}

function drawPicture({ url, file }) {
  const image = at("poster");
  if (image.src === url) return;
  at("blank").hidden = true;
  at("stack").hidden = false;
  image.alt = `The poster ${file.name}`;
  image.src = url;
}

/** Fit the frame's content to the picture, so that heat lies on it to the pixel. */
export function pictureLoaded() {
  const { naturalWidth, naturalHeight } = at("poster");
  at("stack").style.setProperty("--ratio", naturalWidth / naturalHeight);
}

export function pictureFailed() {
  at("stack").hidden = true;
  at("blank").hidden = false;
}

function drawBoard({ state, prediction, note }) {
  const pending = { waiting: "In line", asking: "Reading", busy: "Please wait", failed: "Not read" }[state];
  at("pending").textContent = prediction ? "" : pending;
  const genres = prediction?.genres ?? [];
  at("lines").dataset.count = Math.min(genres.length, 3);
  at("lines").classList.toggle("unsure", prediction?.unsure === true);
  at("lines").replaceChildren(
    ...genres.map((genre) =>
      make(
        "li",
        {},
        make("b", { textContent: genre }),
        make("span", { textContent: confidence(prediction, genre) }),
      ),
    ),
  );
  at("sentence").textContent = note || (prediction ? summary(prediction) : "");
}

function drawFailure({ state, message, remedy }) {
  at("failure").hidden = state !== "failed";
  at("message").textContent = message;
  at("remedy").textContent = { retry: "Try again", unlock: "Enter access token", remove: "Remove it" }[remedy];
}

function drawBars(prediction) {
  const entries = Object.entries(prediction?.probabilities ?? {}).sort((a, b) => b[1] - a[1]);
  const bars = entries.map(([genre, probability]) => bar(prediction, genre, probability));
  // Room is kept for what is to come, so that nothing jumps.
  while (bars.length < SHOWN_BARS && !prediction) bars.push(make("li", { className: "empty" }));
  at("bars").replaceChildren(...bars.slice(0, SHOWN_BARS));
  const rest = bars.slice(SHOWN_BARS);
  at("more").hidden = rest.length === 0;
  if (rest.length === 0) return;
  const most = percent(entries[SHOWN_BARS][1]);
  at("more").querySelector("summary").textContent = `${rest.length} more, at most ${most}`;
  at("rest").replaceChildren(...rest);
}

function bar(prediction, genre, probability) {
  const fill = make("i");
  fill.style.setProperty("--share", probability);
  const track = make("span", { className: "track" }, fill);
  track.setAttribute("aria-hidden", true);
  const chosen = prediction.genres.includes(genre);
  return make(
    "li",
    { className: chosen ? (prediction.unsure ? "guess" : "chosen") : "" },
    make("span", { className: "genre", textContent: genre }),
    track,
    make("span", { className: "percent", textContent: percent(probability) }),
    make("span", { className: "word", textContent: confidence(prediction, genre) }),
  );
}

export function drawLook({ prediction, heat }, { strength }) {
  const explanations = prediction?.explanations ?? [];
  const names = explanations.map(({ genre }) => genre);
  const options = ["", ...names];
  const choices = at("choices");
  if (choices.dataset.options !== options.join("|")) {
    choices.dataset.options = options.join("|");
    choices.replaceChildren(...options.map(choice));
  }
  for (const input of choices.querySelectorAll("input")) input.checked = input.value === (heat ?? "");
  at("look").disabled = names.length === 0;
  at("strength").value = strength;
  at("strength-value").textContent = `${strength}%`;
  drawHeat(explanations.find(({ genre }) => genre === heat), strength);
}

function choice(genre) {
  return make(
    "label",
    {},
    make("input", { type: "radio", name: "heat", value: genre }),
    make("span", { textContent: genre || "Off" }),
  );
}

function drawHeat(explanation, strength) {
  const layer = at("heat");
  layer.hidden = !explanation;
  layer.style.opacity = strength / 100;
  if (!explanation) return layer.removeAttribute("src");
  const source = `data:image/png;base64,${explanation.overlay_png_b64}`;
  if (layer.src !== source) layer.src = source;
  layer.alt = `Heat where the poster speaks for ${explanation.genre}`;
}

function drawFacts({ state, prediction, milliseconds, year }) {
  at("era").textContent = prediction ? title(prediction.era.value) : "–";
  at("era-source").textContent = prediction ? eraSource(prediction.era.source) : "";
  if (document.activeElement !== at("year")) at("year").value = year ?? "";
  at("set-year").disabled = state !== "done";
  drawId("version", prediction?.model_version ?? "");
  drawId("prediction", prediction?.prediction_id ?? "");
  at("latency").textContent = prediction ? duration(milliseconds) : "–";
}

function drawId(id, value) {
  const short = value.slice(0, SHORT_ID);
  at(id).textContent = short || "–";
  at(id).dataset.full = value;
  at(id).title = value;
  document.querySelector(`[data-copies="${id}"]`).disabled = !value;
}

function drawFilms({ prediction, attributions }) {
  const films = prediction?.similar ?? [];
  const empty = prediction !== null && films.length === 0;
  const rows = prediction ? films.map(film) : Array.from({ length: EMPTY_FILMS }, () => make("li"));
  at("films").replaceChildren(...rows);
  at("films").hidden = empty;
  at("films-note").textContent = empty ? "This model holds no films to compare with." : attributions.join(" ");
}

function film({ poster_id: id, title: name, year, genres, score }) {
  return make(
    "li",
    {},
    make("span", { className: "score", textContent: score.toFixed(2), title: "likeness; 1 is the same" }),
    make("span", { className: "film", textContent: name || id, title: id }),
    make("span", { className: "year", textContent: year ?? "" }),
    make("span", { className: "genres", textContent: (genres ?? []).join(", ") }),
  );
}

/** Fill the table that says what the words mean. */
export function drawWords() {
  at("words").replaceChildren(
    ...CONFIDENCE.map(({ from, chosen, other }) =>
      make(
        "tr",
        {},
        make("th", { scope: "row", textContent: from ? `from ${percent(from)}` : "below" }),
        make("td", { textContent: chosen }),
        make("td", { textContent: other }),
      ),
    ),
  );
}

export function announce(text) {
  at("announcer").textContent = text;
}
