// Asks the model server about one poster at a time.

const EXPLAIN = "v1/models/poster-genre:explain";
const TOKEN = "marquee-token";
const TRIES = 6;
const USUAL_WAIT = 2; // Seconds, where the server names none.
const LONGEST_WAIT = 30;
const PATIENCE = 60; // Seconds without an answer.
const LARGE = 1e6; // Bytes.

/** What a person can be told, and what would help: `retry`, `unlock` or `remove`. */
export class Refusal extends Error {
  constructor(message, remedy = "retry") {
    super(message);
    this.remedy = remedy;
  }
}

export const access = {
  get token() {
    return sessionStorage.getItem(TOKEN) ?? "";
  },
  set token(value) {
    sessionStorage.setItem(TOKEN, value.trim());
  },
};

/**
 * Ask for prediction, explanation and similar films: one request, one prediction record.
 *
 * @param {{file: File, year: number|null}} poster
 * @param {AbortSignal} signal Ends it early.
 * @param {(seconds: number) => void} waits Told when the server is busy, with the time to wait.
 * @returns {Promise<{prediction: object, attributions: string[], milliseconds: number}>}
 * @throws {Refusal}
 */
export async function ask(poster, signal, waits) {
  const instance = { image: { b64: await base64(poster.file) } };
  if (poster.year !== null) instance.year = poster.year;
  const body = JSON.stringify({ instances: [instance] });
  for (let left = TRIES; ; ) {
    const token = access.token;
    const start = performance.now();
    const response = await send(body, token, signal, poster.file);
    if (response.ok) return { ...(await read(response)), milliseconds: performance.now() - start };
    if (response.status === 503 && --left) await pause(response, signal, waits);
    // Entered meanwhile, for another poster.
    else if (response.status === 401 && token !== access.token) continue;
    else throw await refusal(response, poster.file, token);
  }
}

async function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Refusal(`${file.name} cannot be read. Is it a folder?`, "remove"));
    reader.readAsDataURL(file);
  });
}

async function send(body, token, signal, file) {
  const headers = { "Content-Type": "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  try {
    return await fetch(EXPLAIN, {
      method: "POST",
      body,
      headers,
      signal: AbortSignal.any([signal, AbortSignal.timeout(PATIENCE * 1000)]),
    });
  } catch (error) {
    signal.throwIfAborted();
    if (error.name === "TimeoutError") throw new Refusal("The server did not answer within a minute.");
    throw new Refusal(unreachable(file));
  }
}

function unreachable(file) {
  // Whoever refuses a large upload may hang up before the browser has heard why.
  if (file.size > LARGE) return `The upload of ${file.name} broke off: the server is out of reach, or ${size(file)} is too large for it.`;
  return "The server cannot be reached. Check the connection, then try again.";
}

async function read(response) {
  const answer = await response.json().catch(() => null);
  const prediction = answer?.predictions?.[0];
  if (!prediction) throw new Refusal("The server's answer holds no prediction. Is this the right server?");
  return { prediction, attributions: answer.attributions ?? [] };
}

async function pause(response, signal, waits) {
  const seconds = Math.min(retryAfter(response.headers.get("Retry-After")), LONGEST_WAIT);
  waits(seconds);
  await new Promise((resolve) => {
    setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", resolve, { once: true });
  });
  signal.throwIfAborted();
}

function retryAfter(value) {
  const seconds = value === null ? NaN : Number(value);
  const until = Number.isNaN(seconds) ? (Date.parse(value) - Date.now()) / 1000 : seconds;
  return Number.isNaN(until) ? USUAL_WAIT : Math.max(until, 0.1);
}

async function refusal(response, file, token) {
  const said = await reason(response);
  switch (response.status) {
    case 400:
      // One poster a request: the server calls it instance 0, a person knows it by its file.
      return new Refusal(sentence(said.replace(/^instance 0:/, `${file.name}:`) || `${file.name} was refused`), "remove");
    case 401:
      return new Refusal(
        token ? "The server did not accept the access token." : "This server asks for an access token.",
        "unlock",
      );
    case 413:
      return new Refusal(`${file.name} is too large for this server (${size(file)}). Send a smaller copy.`, "remove");
    case 503:
      return new Refusal("The server is still busy. Try again later.");
    default:
      return new Refusal(sentence(`The server answered with status ${response.status}${said && `: ${said}`}`));
  }
}

async function reason(response) {
  const document = await response.json().catch(() => null);
  return typeof document?.error === "string" ? document.error : "";
}

const sentence = (text) => (/[.!?]$/.test(text) ? text : `${text}.`);

const size = (file) => `${(file.size / 1e6).toFixed(1)} MB`;
