// What happens when: posters come in, are asked about two at a time, and are looked at.

import { access, ask, Refusal } from "./api.js";
import {
  announce,
  at,
  drawLook,
  drawPage,
  drawPoster,
  drawStrip,
  drawWords,
  pictureFailed,
  pictureLoaded,
} from "./view.js";
import { confidence, percent } from "./words.js";

const AT_ONCE = 2;

/**
 * @typedef {object} Poster
 * @property {string} id Also its tab's.
 * @property {File} file
 * @property {string} url Of the picture, within this page.
 * @property {number|null} year
 * @property {"waiting"|"asking"|"busy"|"done"|"failed"} state
 * @property {AbortController} removal
 * @property {object|null} prediction The server's answer.
 * @property {string[]} attributions What must stand beside the similar films.
 * @property {number} milliseconds Until it came.
 * @property {string|null} heat The genre whose heat is shown.
 * @property {string} note While it is busy.
 * @property {string} message If it failed.
 * @property {"retry"|"unlock"|"remove"} remedy If it failed.
 */

/** @type {Poster[]} */
const posters = [];
/** @type {Poster|undefined} */
let selected;
const look = { on: true, strength: 65 };
let asking = 0;
let count = 0;

/** Only what changed: nobody loses a selection of text to another poster's answer. */
function redraw(poster) {
  drawStrip(posters, selected);
  if (poster === selected) drawPoster(poster, look);
}

function add(files) {
  if (files.length === 0) return;
  const added = [...files].map((file) => ({
    id: `poster-${++count}`,
    file,
    url: URL.createObjectURL(file),
    year: null,
    state: "waiting",
    removal: new AbortController(),
    prediction: null,
    attributions: [],
    milliseconds: 0,
    heat: null,
    note: "",
    message: "",
    remedy: "retry",
  }));
  const first = posters.length === 0;
  posters.push(...added);
  select(added[0]);
  if (first) at(selected.id).focus();
  work();
}

function select(poster) {
  selected = poster;
  drawPage(posters, selected, look);
  if (poster) at(poster.id).scrollIntoView({ block: "nearest", inline: "nearest" });
}

function remove(poster) {
  const place = posters.indexOf(poster);
  posters.splice(place, 1);
  poster.removal.abort();
  URL.revokeObjectURL(poster.url);
  select(posters[Math.min(place, posters.length - 1)]);
  if (selected) at(selected.id).focus();
  else document.querySelector("#welcome input").focus();
  announce(`${poster.file.name} is removed.`);
}

function work() {
  while (asking < AT_ONCE) {
    const poster = posters.find(({ state }) => state === "waiting");
    if (!poster) return;
    asking += 1;
    answer(poster).finally(() => {
      asking -= 1;
      work();
    });
  }
}

async function answer(poster) {
  Object.assign(poster, { state: "asking", note: "", message: "" });
  redraw(poster);
  try {
    succeed(poster, await ask(poster, poster.removal.signal, (seconds) => wait(poster, seconds)));
  } catch (error) {
    if (poster.removal.signal.aborted) return;
    fail(poster, error);
  }
  redraw(poster);
}

function succeed(poster, answer) {
  const { prediction } = answer;
  const genre = prediction.genres[0];
  const heat = look.on ? (prediction.explanations?.[0]?.genre ?? null) : null;
  Object.assign(poster, { ...answer, state: "done", note: "", heat });
  const words = `${confidence(prediction, genre)}, ${percent(prediction.probabilities[genre])}`;
  announce(`${poster.file.name}: ${prediction.unsure ? "unsure. " : ""}${genre}, ${words}.`);
}

function wait(poster, seconds) {
  poster.state = "busy";
  poster.note = `The server is busy. Trying again in ${Math.ceil(seconds)} s.`;
  announce(`${poster.file.name}: ${poster.note}`);
  redraw(poster);
}

function fail(poster, error) {
  const known = error instanceof Refusal;
  if (!known) console.error(error);
  const message = known ? error.message : "This page failed; its console says why.";
  const remedy = known ? error.remedy : "retry";
  Object.assign(poster, { state: "failed", note: "", prediction: null, message, remedy });
  announce(`${poster.file.name} was not read. ${message}`);
  if (remedy === "unlock") askForToken(message);
}

function again(which) {
  for (const poster of posters.filter(which)) {
    poster.state = "waiting";
    redraw(poster);
  }
  work();
}

function askForToken(message) {
  if (at("access").open) return;
  at("access-title").textContent = message;
  at("token").value = "";
  at("access").showModal();
}

function arrows(event) {
  const place = posters.indexOf(selected);
  const last = posters.length - 1;
  const goal = {
    ArrowRight: place + 1,
    ArrowDown: place + 1,
    ArrowLeft: place - 1,
    ArrowUp: place - 1,
    Home: 0,
    End: last,
  }[event.key];
  if (event.key === "Delete") return remove(selected);
  if (goal === undefined) return;
  event.preventDefault();
  select(posters[Math.max(0, Math.min(goal, last))]);
  at(selected.id).focus();
}

async function copy(button) {
  const code = at(button.dataset.copies);
  try {
    await navigator.clipboard.writeText(code.dataset.full);
    button.textContent = "Copied";
    announce("Copied.");
    setTimeout(() => (button.textContent = "Copy"), 1500);
  } catch {
    // Browsers lend the clipboard to https and localhost only: then to be copied by hand.
    code.textContent = code.dataset.full;
    getSelection().selectAllChildren(code);
  }
}

function listen() {
  for (const input of document.querySelectorAll("input[type=file]")) {
    input.addEventListener("change", () => {
      add(input.files);
      input.value = "";
    });
  }
  listenToDrops();
  document.addEventListener("paste", (event) => add(event.clipboardData.files));

  at("strip").addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (tab) select(posters.find(({ id }) => id === tab.id));
  });
  at("strip").addEventListener("keydown", arrows);
  at("remove").addEventListener("click", () => remove(selected));
  at("poster").addEventListener("load", pictureLoaded);
  at("poster").addEventListener("error", pictureFailed);

  at("choices").addEventListener("change", (event) => {
    selected.heat = event.target.value || null;
    look.on = selected.heat !== null;
    drawLook(selected, look);
  });
  at("strength").addEventListener("input", (event) => {
    look.strength = Number(event.target.value);
    drawLook(selected, look);
  });

  at("year-form").addEventListener("submit", (event) => {
    event.preventDefault();
    selected.year = at("year").value ? Number(at("year").value) : null;
    again((poster) => poster === selected);
  });
  at("remedy").addEventListener("click", () => {
    if (selected.remedy === "remove") remove(selected);
    else if (selected.remedy === "unlock") askForToken(selected.message);
    else again((poster) => poster === selected);
  });
  at("access").querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    access.token = at("token").value;
    at("access").close();
    again(({ state, remedy }) => state === "failed" && remedy === "unlock");
  });
  at("access-cancel").addEventListener("click", () => at("access").close());
  for (const button of document.querySelectorAll("[data-copies]")) button.addEventListener("click", () => copy(button));
}

function listenToDrops() {
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  let depth = 0; // The pointer enters an element before it leaves its parent.
  const show = (change) => {
    depth = Math.max(0, depth + change);
    at("drop").hidden = depth === 0;
  };
  document.addEventListener("dragenter", (event) => holdsFiles(event) && show(1));
  document.addEventListener("dragleave", (event) => holdsFiles(event) && show(-1));
  document.addEventListener("dragover", (event) => holdsFiles(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    show(-Infinity);
    add(event.dataTransfer.files);
  });
}

drawWords();
listen();
