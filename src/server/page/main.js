// Joins picture, form, requests and text.

import { ServerError, chat, exported, modelName, report, reportBody } from "./api.js";
import { Stage, readFile } from "./picture.js";
import { Sheet, origin, plainText } from "./text.js";

const CAPTION = "Describe the image in one sentence.";
const BUTTON = { report: "Write the report", question: "Ask", caption: "Write a caption" };
/** Forms that the server makes. */
const FORMS = {
  fhir: { accept: "application/fhir+json", name: "report.fhir.json" },
  dicom: { accept: "application/dicom", name: "report.dcm" },
};

const at = (id) => document.getElementById(id);
const stage = new Stage(at("drop"));
const sheet = new Sheet(at("text"), (region, label) => stage.point(region, label));
const state = { picture: null, model: "", running: null, report: null, body: null, text: "" };

function say(text) {
  at("status").textContent = text;
}

function complain(error) {
  const message = at("message");
  message.hidden = !error;
  message.textContent = error ? error.message : "";
}

function task() {
  return new FormData(at("form")).get("task");
}

function key() {
  return at("key").value.trim();
}

/** Shows the key field once the server has asked for a key. */
function askForKey() {
  at("key-row").hidden = false;
  at("key").focus();
}

function update() {
  const kind = task();
  at("indication-row").hidden = kind !== "report";
  at("question-row").hidden = kind !== "question";
  at("go").textContent = BUTTON[kind];
  at("go").disabled = Boolean(state.running);
  at("stop").hidden = !state.running;
}

async function take(file) {
  if (!file) return;
  complain(null);
  try {
    state.picture = await readFile(file);
  } catch (error) {
    complain(error);
    return;
  }
  at("drop").classList.add("filled");
  at("invite").hidden = true;
  at("file-name").textContent = state.picture.name;
  at("picture").classList.remove("reading");
  stage.show(state.picture);
  say(`${state.picture.name} chosen.`);
}

function begin() {
  state.running = new AbortController();
  Object.assign(state, { report: null, body: null, text: "" });
  complain(null);
  sheet.clear();
  at("result").hidden = false;
  at("result").setAttribute("aria-busy", "true");
  at("exports").hidden = true;
  at("legend").hidden = true;
  at("origin").textContent = "";
  say("Writing.");
  update();
}

function finish(outcome) {
  sheet.end();
  state.running = null;
  at("result").setAttribute("aria-busy", "false");
  at("result").hidden = !at("text").hasChildNodes();
  at("exports").hidden = !state.report && !state.text;
  document.querySelectorAll("[data-save]").forEach((button) => {
    button.hidden = !state.report && button.dataset.save !== "text";
  });
  say(outcome);
  update();
}

async function writeReport() {
  const { picture, running } = state;
  const request = { image: picture.url, indication: at("indication").value.trim(), model: state.model };
  const asked = reportBody({ ...request, preview: picture.dicom });
  const written = await report(asked, { key: key(), signal: running.signal }, (section, text) => sheet.add(section, text));
  // The exports need no preview, and the seed of this report.
  Object.assign(state, { report: written, body: { ...reportBody(request), seed: written.seed } });
  stage.described(written.images?.[0], picture.name);
  sheet.report(written);
  at("picture").classList.add("reading");
  at("legend").hidden = !(written.sentences?.length > 0);
  at("origin").textContent = origin(written);
  at("notice").textContent = written.notice;
  const warnings = (written.warnings ?? []).map((warning) => warning.message);
  if (warnings.length > 0) complain(new Error(`Note: ${warnings.join("; ")}.`));
}

async function writeAnswer(prompt) {
  const { picture, running, model } = state;
  await chat({ image: picture.url, prompt, model, key: key(), signal: running.signal }, (text) => {
    state.text += text;
    sheet.add("answer", text);
  });
}

async function go(event) {
  event.preventDefault();
  if (state.running) return;
  const kind = task();
  const question = at("question").value.trim();
  if (!state.picture) {
    complain(new Error("Choose a picture first."));
    at("file").focus();
    return;
  }
  if (kind === "question" && !question) {
    complain(new Error("Write a question first."));
    at("question").focus();
    return;
  }
  begin();
  try {
    if (!state.model) state.model = await modelName(key());
    await (kind === "report" ? writeReport() : writeAnswer(kind === "caption" ? CAPTION : question));
    finish("The text is complete.");
  } catch (error) {
    const stopped = error.name === "AbortError";
    if (!stopped) complain(error instanceof ServerError ? error : new Error(`This page failed: ${error.message}`));
    finish(stopped ? "Stopped." : "");
    if (error.status === 401) askForKey();
  }
}

function written() {
  return state.report ? plainText(state.report) : `${state.text.trim()}\n\n${at("notice").textContent}\n`;
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function copy() {
  try {
    await navigator.clipboard.writeText(written());
    say("Copied.");
  } catch {
    complain(new Error("The browser does not let this page write to the clipboard; save the text instead."));
  }
}

async function saveAs(form) {
  complain(null);
  try {
    if (form === "json") {
      save(new Blob([JSON.stringify(state.report, null, 2)], { type: "application/json" }), "report.json");
    } else if (form === "text") {
      save(new Blob([written()], { type: "text/plain" }), "report.txt");
    } else {
      save(await exported(state.body, FORMS[form].accept, { key: key() }), FORMS[form].name);
    }
    say("Saved.");
  } catch (error) {
    complain(error);
  }
}

function listen() {
  const drop = at("drop");
  const file = (data) => [...(data?.files ?? [])][0];
  at("file").addEventListener("change", (event) => take(event.target.files[0]));
  document.addEventListener("paste", (event) => {
    if (file(event.clipboardData)) take(file(event.clipboardData));
  });
  for (const type of ["dragenter", "dragover"]) {
    document.addEventListener(type, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  for (const type of ["dragleave", "drop", "dragend"]) {
    document.addEventListener(type, (event) => {
      event.preventDefault();
      if (type !== "dragleave" || !event.relatedTarget) drop.classList.remove("over");
    });
  }
  document.addEventListener("drop", (event) => take(file(event.dataTransfer)));
  at("form").addEventListener("submit", go);
  at("form").addEventListener("change", update);
  at("stop").addEventListener("click", () => state.running?.abort());
  at("exports").addEventListener("click", (event) => {
    if (event.target.matches("[data-copy]")) copy();
    if (event.target.matches("[data-save]")) saveAs(event.target.dataset.save);
  });
}

listen();
update();
// On a phone the picture sticks below the notice, whose height depends on its line breaks.
new ResizeObserver(([entry]) => {
  document.documentElement.style.setProperty("--notice-height", `${entry.target.offsetHeight}px`);
}).observe(at("notice"));
modelName("")
  .then((name) => {
    state.model = name;
    at("model").textContent = name;
  })
  .catch((error) => {
    if (error.status === 401) at("key-row").hidden = false;
  });
