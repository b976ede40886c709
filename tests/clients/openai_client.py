"""The official OpenAI client against a running server.

    pip install openai
    swinseek serve --port 8080 &
    python tests/clients/openai_client.py http://127.0.0.1:8080

Prints one line a check; exits 1 at the first that fails. Give a key with OPENAI_API_KEY when the server wants one.
"""

import base64
import concurrent.futures
import json
import os
import pathlib
import random
import sys

import openai

BASE = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
IMAGES = pathlib.Path(__file__).parents[2] / "samples" / "images"
client = openai.OpenAI(base_url=f"{BASE}/v1", api_key=os.environ.get("OPENAI_API_KEY", "none"), max_retries=0)


def data_uri(path: pathlib.Path, kind: str) -> str:
    return f"data:{kind};base64," + base64.b64encode(path.read_bytes()).decode()


CAT = data_uri(IMAGES / "cat.jpg", "image/jpeg")
DICOM = data_uri(IMAGES / "phantom.dcm", "application/dicom")


def about(url: str, text: str) -> list:
    image = {"type": "image_url", "image_url": {"url": url, "detail": "auto"}}
    return [{"role": "user", "content": [{"type": "text", "text": text}, image]}]


def check(name: str, holds, note: object = "") -> None:
    print(("ok   " if holds else "FAIL ") + name, str(note)[:120], flush=True)
    if not holds:
        sys.exit(1)


def refused(name: str, error: type, param, **request) -> None:
    try:
        client.chat.completions.create(**request)
    except error as found:
        check(name, found.param == param, f"{found.status_code} {found.code}: {found.message}")
    else:
        check(name, False, "was answered")


model = client.models.list().data[0].id
check("models", client.models.retrieve(model).id == model, model)

text = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello."}], max_tokens=8)
check("chat", text.choices[0].message.role == "assistant" and text.usage.total_tokens > 0, text.choices[0].message)

report = client.chat.completions.create(model=model, messages=about(DICOM, "Write the report."), seed=1)
check("DICOM", "FINDINGS" in report.choices[0].message.content, report.choices[0].message.content)
check("finish reason", report.choices[0].finish_reason in ("stop", "length"), report.choices[0].finish_reason)
again = client.chat.completions.create(model=model, messages=about(DICOM, "Write the report."), seed=1)
check("the same again", again.choices[0].message.content == report.choices[0].message.content)
check("fingerprint", again.system_fingerprint == report.system_fingerprint, report.system_fingerprint)

chunks = list(
    client.chat.completions.create(
        model=model, messages=about(DICOM, "Write the report."), stream=True, stream_options={"include_usage": True}
    )
)
streamed = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
check("stream", streamed == report.choices[0].message.content, f"{len(chunks)} chunks")
check("role first", chunks[0].choices[0].delta.role == "assistant")
check("usage last", chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0, chunks[-1].usage)
check("created is one", len({c.created for c in chunks}) == 1 and len({c.id for c in chunks}) == 1)

cut = client.chat.completions.create(model=model, messages=about(DICOM, "Write the report."), max_completion_tokens=3)
check("length", cut.choices[0].finish_reason == "length" and cut.usage.completion_tokens == 3)
jpeg = client.chat.completions.create(model=model, messages=about(CAT, "Describe the image."))
check("JPEG", jpeg.usage.prompt_tokens > 0, jpeg.choices[0].message.content)

several = client.chat.completions.create(
    model=model, messages=about(CAT, "Describe the image."), n=3, temperature=1, seed=5, max_tokens=8
)
check("n", [c.index for c in several.choices] == [0, 1, 2], [c.message.content for c in several.choices])

logged = client.chat.completions.create(
    model=model, messages=about(DICOM, "Write the report."), logprobs=True, top_logprobs=3, max_tokens=4
)
tokens = logged.choices[0].logprobs.content
check("logprobs", len(tokens) == 4 and all(len(t.top_logprobs) == 3 and t.logprob <= 0 for t in tokens), tokens[0])
check("logprobs spell the text", "".join(t.token for t in tokens).startswith(logged.choices[0].message.content))

schema = {
    "type": "object",
    "properties": {"finding": {"type": "string", "maxLength": 40}, "normal": {"type": "boolean"}},
    "required": ["finding", "normal"],
    "additionalProperties": False,
}
shaped = client.chat.completions.create(
    model=model,
    messages=about(DICOM, "Is the image normal?"),
    max_tokens=120,
    response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}},
)
value = json.loads(shaped.choices[0].message.content)
check("json_schema", isinstance(value["normal"], bool) and isinstance(value["finding"], str), value)

completion = client.completions.create(model=model, prompt="The heart", max_tokens=5, logprobs=2)
check("completions", completion.object == "text_completion" and completion.usage.completion_tokens <= 5, completion.choices[0])
pieces = [c.choices[0].text for c in client.completions.create(model=model, prompt="The heart", max_tokens=5, stream=True)]
check("completions stream", "".join(pieces) == completion.choices[0].text, pieces)

hello = [{"role": "user", "content": "Hello."}]
refused("no such model", openai.NotFoundError, "model", model="gpt-4o", messages=hello)
refused("out of range", openai.BadRequestError, "temperature", model=model, messages=hello, temperature=9)
refused("unknown", openai.BadRequestError, "tools", model=model, messages=hello, tools=[])
where = "messages.0.content.1.image_url"
refused("bad image", openai.BadRequestError, where, model=model, messages=about("data:image/png;base64,aGVsbG8=", "x"))
refused("URL off", openai.BadRequestError, where, model=model, messages=about("http://127.0.0.1/x.png", "x"))
refused("too long", openai.BadRequestError, "messages", model=model, messages=[{"role": "user", "content": "word " * 20000}])

with client.chat.completions.create(model=model, messages=about(DICOM, "Write the report."), stream=True) as stream:
    next(iter(stream))
check("left early", client.chat.completions.create(model=model, messages=hello, max_tokens=1).choices)


def answer(i: int) -> tuple:
    found = client.chat.completions.create(
        model=model,
        messages=about((DICOM, CAT)[i % 2], ("Write the report.", "Is there a nodule?", "Describe the image.")[i % 3]),
        temperature=(0, 0.7, 1.3)[i % 3],
        seed=i,
        max_tokens=4 + i % 29,
        logprobs=True,
        top_logprobs=i % 4,
    )
    return found.choices[0].message.content, found.choices[0].finish_reason, str(found.choices[0].logprobs)


alone = [answer(i) for i in range(64)]
order = random.Random(7).sample(range(64), 64)
with concurrent.futures.ThreadPoolExecutor(24) as pool:
    together = dict(zip(order, pool.map(answer, order)))
check("64 at once are as each alone", all(together[i] == alone[i] for i in range(64)), f"{len(set(alone))} different answers")
print("all checks hold")
