"""Drives the page of a running server in headless Chromium; screenshots go to the current folder.

    pip install playwright          (and Chromium; CHROMIUM names it when it is not at /usr/bin/chromium)
    swinseek serve --port 8080 &
    python tests/page/drive.py http://127.0.0.1:8080

Prints one line a check; exits 1 when one fails, when the page logs an error or when it asks for anything from elsewhere.
"""

import json
import os
import pathlib
import sys

from playwright.sync_api import Page, sync_playwright

BASE = (sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080").rstrip("/") + "/"
IMAGES = pathlib.Path(__file__).parents[2] / "samples" / "images"
problems: list[str] = []


def check(name: str, holds, note: object = "") -> None:
    print(("ok   " if holds else "FAIL ") + name, str(note)[:140], flush=True)
    if not holds:
        problems.append(name)


def open_page(browser, scheme="light", width=1280, height=860, **more) -> Page:
    page = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height}, **more).new_page()
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    inside = (BASE, "data:", "blob:")
    page.on("request", lambda r: None if r.url.startswith(inside) else problems.append(f"asks for {r.url}"))
    page.goto(BASE)
    return page


def write(page: Page, file: str) -> None:
    page.set_input_files("#file", str(IMAGES / file))
    page.click("#go")
    page.wait_for_selector("#exports:not([hidden])")


def saved(page: Page, kind: str) -> str:
    with page.expect_download() as download:
        page.click(f"[data-save={kind}]")
    return pathlib.Path(download.value.path()).read_text()


def report(browser) -> None:
    page = open_page(browser)
    page.screenshot(path="empty.png")
    write(page, "phantom.dcm")
    sentences = page.locator(".sentence").count()
    check("a report has sentences", sentences >= 2, page.inner_text("#text"))
    page.hover(".sentence >> nth=1")
    page.wait_for_timeout(250)
    check("a sentence shows its region", page.locator(".region.shown").count() == 1)
    page.screenshot(path="report.png")
    check("text", "physician" in saved(page, "text"))
    fhir = json.loads(saved(page, "fhir"))
    check("FHIR", (fhir["resourceType"], fhir["status"]) == ("DiagnosticReport", "preliminary"))
    check("JSON", json.loads(saved(page, "json"))["sentences"])
    page.focus(".sentence >> nth=0")
    check("sentences take the focus", page.locator(".region.shown").count() == 1)


def question(browser) -> None:
    page = open_page(browser, "dark")
    page.set_input_files("#file", str(IMAGES / "cat.jpg"))
    page.check("input[value=question]", force=True)
    page.click("#go")
    page.wait_for_selector("#message:not([hidden])")
    check("a question is wanted", True, page.inner_text("#message"))
    page.fill("#question", "Is there a cat?")
    page.keyboard.press("Enter")
    page.wait_for_selector("#exports:not([hidden])")
    check("an answer", page.inner_text("#text").strip(), page.inner_text("#text"))
    page.screenshot(path="question_dark.png")


def phone(browser) -> None:
    page = open_page(browser, "dark", 390, 844, device_scale_factor=2, has_touch=True)
    write(page, "phantom.dcm")
    page.tap(".sentence >> nth=1")
    page.wait_for_timeout(250)
    page.screenshot(path="phone.png", full_page=True)
    check("nothing is wider than a phone", page.evaluate("document.documentElement.scrollWidth") <= 390)


def mistakes(browser) -> None:
    page = open_page(browser, reduced_motion="reduce")
    page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": b"no picture"})
    before = len(problems)
    page.click("#go")
    page.wait_for_selector("#message:not([hidden])")
    # Chromium itself logs that a request was refused; that is what was wanted here.
    del problems[before:]
    check("what is no picture is named", "image" in page.inner_text("#message"), page.inner_text("#message"))
    page.screenshot(path="refused.png")


with sync_playwright() as playwright:
    chromium = playwright.chromium.launch(
        executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox"]
    )
    for part in (report, question, phone, mistakes):
        part(chromium)
    chromium.close()
for problem in problems:
    print("problem:", problem)
sys.exit(bool(problems))
