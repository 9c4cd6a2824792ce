// Numbers and names as plain words.

/** What a probability is called, by the least probability that earns the word. */
export const CONFIDENCE = [
  { from: 0.9, chosen: "almost certain", other: "not ruled out" },
  { from: 0.65, chosen: "likely", other: "not ruled out" },
  { from: 0.4, chosen: "about even", other: "not ruled out" },
  { from: 0.2, chosen: "possible", other: "not ruled out" },
  { from: 0.05, chosen: "possible", other: "unlikely" },
  { from: 0, chosen: "possible", other: "very unlikely" },
];

const GUESS = "best guess";

const ERA_SOURCES = {
  given: "by its year",
  predicted: "by its looks",
  none: "",
};

/** The word for one genre of a prediction. */
export function confidence(prediction, genre) {
  const chosen = prediction.genres.includes(genre);
  if (chosen && prediction.unsure) return GUESS;
  // As it is shown: 65% is 65% in the table of words too.
  const probability = Math.round(prediction.probabilities[genre] * 100) / 100;
  const word = CONFIDENCE.find(({ from }) => probability >= from);
  return chosen ? word.chosen : word.other;
}

/** The whole prediction in a sentence. */
export function summary(prediction) {
  const all = Object.keys(prediction.probabilities).length;
  const count = prediction.genres.length;
  if (prediction.unsure) {
    return `Unsure: none of ${all} genres reached its threshold. ${prediction.genres[0]} is only the best guess.`;
  }
  return `${count} of ${all} genres reached ${count === 1 ? "its" : "their"} threshold.`;
}

/** Never 0% or 100%: no model is that sure. */
export function percent(probability) {
  if (probability < 0.01) return "<1%";
  if (probability > 0.99) return ">99%";
  return `${Math.round(probability * 100)}%`;
}

export function eraSource(source) {
  return ERA_SOURCES[source] ?? source;
}

/** `new_hollywood` as a title. */
export function title(name) {
  return name.replaceAll("_", " ").replace(/\b./g, (letter) => letter.toUpperCase());
}

export function duration(milliseconds) {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}
