// Requests to the server: JSON in, JSON or server-sent events out. Errors carry the server's own message.

export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

function headers(key, accept) {
  const head = { "Content-Type": "application/json", Accept: accept };
  if (key) head.Authorization = `Bearer ${key}`;
  return head;
}

async function refusal(response) {
  const text = await response.text().catch(() => "");
  let message = "";
  try {
    message = JSON.parse(text).error.message;
  } catch {
    message = text.slice(0, 300);
  }
  const wait = response.headers.get("Retry-After");
  if (wait && /^\d+$/.test(wait)) message += ` Try again in ${wait} s.`;
  return new ServerError(response.status, message || `The server answered ${response.status}.`);
}

async function post(path, body, { key, accept = "application/json", signal }) {
  let response;
  try {
    response = await fetch(path, { method: "POST", headers: headers(key, accept), body: JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(0, "The server cannot be reached.");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

/** Events of a stream as `{ event, data }`, data parsed; ends at `[DONE]` or at the end of the body. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += value.replaceAll("\r", "");
    for (let end = buffer.indexOf("\n\n"); end >= 0; end = buffer.indexOf("\n\n")) {
      const lines = buffer.slice(0, end).split("\n");
      buffer = buffer.slice(end + 2);
      const field = (name) =>
        lines.filter((line) => line.startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).trimStart());
      const data = field("data").join("\n");
      if (data === "[DONE]") return;
      if (!data) continue;
      const parsed = JSON.parse(data);
      if (parsed.error) throw new ServerError(response.status, parsed.error.message);
      yield { event: field("event")[0] ?? "message", data: parsed };
    }
  }
}

/** Name of the model that the server runs. */
export async function modelName(key) {
  const response = await fetch("/v1/models", { headers: headers(key, "application/json") });
  if (!response.ok) throw await refusal(response);
  return (await response.json()).data?.[0]?.id ?? "";
}

/** Streams an answer of the chat API; `onText` gets each piece. */
export async function chat({ image, prompt, model, key, signal }, onText) {
  const content = [
    { type: "image_url", image_url: { url: image } },
    { type: "text", text: prompt },
  ];
  const body = { model, messages: [{ role: "user", content }], stream: true };
  for await (const { data } of events(await post("/v1/chat/completions", body, { key, accept: "text/event-stream", signal }))) {
    const piece = data.choices?.[0]?.delta?.content;
    if (piece) onText(piece);
  }
}

/** The body of a report request; the exports send the same one, so that they get the same report. */
export function reportBody({ image, indication, model, preview }) {
  const body = { model, images: [{ url: image }] };
  if (indication) body.indication = indication;
  if (preview) body.include = ["preview"];
  return body;
}

/**
 * Streams a report. Events: `delta` {section, text} while it is written, `report` (the whole object) at the end. A server
 * that answers with plain JSON is understood too.
 */
export async function report(body, { key, signal }, onText) {
  const response = await post("/v1/reports", { ...body, stream: true }, { key, accept: "text/event-stream", signal });
  if (!(response.headers.get("Content-Type") ?? "").startsWith("text/event-stream")) return response.json();
  let whole = null;
  for await (const { event, data } of events(response)) {
    if (event === "report") whole = data;
    else if (typeof data.text === "string") onText(data.section, data.text);
  }
  if (!whole) throw new ServerError(0, "The stream ended before the report was complete.");
  return whole;
}

/** The same report in another form, as a blob. */
export async function exported(body, accept, { key }) {
  return (await post("/v1/reports", body, { key, accept })).blob();
}
