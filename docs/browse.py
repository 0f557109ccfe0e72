"""Open every page of the built site in a headless Chromium and say what is wrong with it.

    python docs/browse.py [FOLDER] [--pictures FOLDER]

FOLDER is build/docs unless named. Needs a ``chromium``, ``chromium-browser`` or ``google-chrome``
on PATH and nothing else. At 390 and 1440 px, light and dark, no page may be wider than the window,
log an error, fail to load or to decode anything, or ask another host; and every link to a page of
the site, or to a place on one, must lead somewhere. Exit code 1 if something is wrong.
"""

from __future__ import annotations

import argparse
import base64
import functools
import http.server
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

WIDTHS, SCHEMES = (390, 1440), ("light", "dark")
# How much wider the page is than the window, by which elements, and pictures without pixels.
LOOK = """(async () => {
  const wide = document.documentElement.scrollWidth - window.innerWidth;
  const scrolls = e => { for (let p = e.parentElement; p; p = p.parentElement) {
    if (getComputedStyle(p).overflowX !== 'visible') return true; } return false; };
  const out = wide <= 0 ? [] : [...document.querySelectorAll('body *')]
    .filter(e => e.getBoundingClientRect().right > window.innerWidth + 1 && !scrolls(e))
    .slice(0, 3).map(e => e.tagName + '.' + e.className);
  const images = [...document.images];
  images.forEach(image => { image.loading = 'eager'; });
  const failed = [];
  for (const image of images) {
    try { await image.decode(); } catch { failed.push(image.src); } }
  return {wide, out, failed};
})()"""


class Browser:
    """A Chromium that is spoken to through a pair of pipes, one JSON text after the other."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = commands
        self._answers = os.fdopen(answers, "rb", buffering=0)
        self._left, self._number = b"", itertools.count(1)
        self.events: list[dict[str, Any]] = []
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give a command and wait for its answer; events in between are kept."""
        number = next(self._number)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def wait_for(self, method: str) -> None:
        """Until an event of this name has come."""
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            part = self._answers.read(1 << 16)
            if not part:
                raise RuntimeError("the browser has ended")
            self._left += part
        text, _, self._left = self._left.partition(b"\0")
        return json.loads(text)


@contextmanager
def browsing() -> Iterator[Browser]:
    """A fresh headless browser, with a profile that goes with it."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        sys.exit(f"none of {', '.join(names)} is on PATH; install one")
    read_commands, commands = os.pipe()
    answers, write_answers = os.pipe()

    def arrange() -> None:
        os.dup2(read_commands, 3)
        os.dup2(write_answers, 4)

    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            [program, *options, "--remote-debugging-pipe", "about:blank"],
            preexec_fn=arrange,
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield Browser(commands, answers)
        finally:
            process.terminate()
            process.wait()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder at an address of this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def looked_at(browser: Browser, address: str, picture: Path | None) -> Iterator[str]:
    """What is wrong with a page."""
    browser.events.clear()
    browser.call("Page.navigate", url=address)
    browser.wait_for("Page.loadEventFired")
    for width, scheme in itertools.product(WIDTHS, SCHEMES):
        browser.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 800,
        )
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.call("Emulation.setEmulatedMedia", features=media)
        answer = browser.call(
            "Runtime.evaluate", expression=LOOK, awaitPromise=True, returnByValue=True
        )
        seen = answer["result"]["value"]
        if seen["wide"] > 0:
            yield f"{seen['wide']} px too wide at {width} ({', '.join(seen['out'])})"
        yield from (f"not decoded: {image}" for image in seen["failed"])
        if picture is not None:
            shot = browser.call("Page.captureScreenshot", format="png")
            file = picture.with_name(f"{picture.name}-{width}-{scheme}.png")
            file.write_bytes(base64.b64decode(shot["data"]))
    yield from (text for event in browser.events if (text := _wrong(event, address)))


def _wrong(event: dict[str, Any], address: str) -> str:
    """What an event says of a page that is not as it should be; empty if nothing."""
    method, told = event.get("method"), event.get("params", {})
    if method == "Log.entryAdded" and told["entry"]["level"] == "error":
        return f"logged: {told['entry']['text']}"
    if method == "Runtime.exceptionThrown":
        return f"threw: {told['exceptionDetails']['text']}"
    if method == "Runtime.consoleAPICalled" and told["type"] in ("error", "assert"):
        return f"console: {told['args']}"
    if method == "Network.loadingFailed" and not told.get("canceled"):
        return f"not loaded: {told['errorText']}"
    if method == "Network.requestWillBeSent":
        asked = urllib.parse.urlsplit(told["request"]["url"])
        if asked.scheme != "data" and asked.netloc != urllib.parse.urlsplit(address).netloc:
            return f"asks {asked.netloc}"
    return ""


class Page(HTMLParser):
    """The links of a page, and the places on it that links can name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element links to, and by which names it is linked to."""
        given = dict(attrs)
        self.places |= {name for name in (given.get("id"), given.get("name")) if name}
        if tag == "a" and given.get("href"):
            self.links.add(str(given["href"]))


def broken(folder: Path) -> Iterator[tuple[str, str]]:
    """Pages with links that lead nowhere, within the site."""
    pages = {path.resolve(): Page(path.read_text("utf-8")) for path in folder.rglob("*.html")}
    for path, page in pages.items():
        for link in sorted(page.links):
            split = urllib.parse.urlsplit(link)
            if split.scheme or split.netloc:
                continue
            aim = (path.parent / urllib.parse.unquote(split.path)).resolve() if split.path else path
            there = aim.is_file() and (
                not split.fragment
                or aim not in pages
                or urllib.parse.unquote(split.fragment) in pages[aim].places
            )
            if not there:
                yield str(path.relative_to(folder.resolve())), f"broken link {link}"


def main() -> int:
    """Look at everything and print what is wrong; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("build/docs"))
    parser.add_argument("--pictures", type=Path, help="folder for a picture of every page")
    given = parser.parse_args()
    pages = sorted(given.folder.rglob("*.html"))
    if given.pictures is not None:
        given.pictures.mkdir(parents=True, exist_ok=True)
    found = list(broken(given.folder))
    with served(given.folder) as address, browsing() as browser:
        for domain in ("Page", "Runtime", "Log", "Network"):
            browser.call(f"{domain}.enable")
        for page in pages:
            name = page.relative_to(given.folder).as_posix()
            picture = given.pictures and given.pictures / name.replace("/", "_")
            found += [(name, text) for text in looked_at(browser, f"{address}/{name}", picture)]
    for name, text in dict.fromkeys(found):
        print(f"{name}: {text}")
    print(f"{len(pages)} pages, {len({name for name, _ in found})} with something wrong")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
