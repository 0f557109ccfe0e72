"""The page as a reader's browser meets it."""

from __future__ import annotations

import base64
import html
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlparse

import pytest
from PIL import Image

from potstill.data.distilled import DistilledDataset
from potstill.errors import RunError
from potstill.report import write
from tests.report import audit_records, synthetic

VOID = {"meta", "br", "img", "link", "input", "hr", "image", "path", "rect", "use"}
HOSTILE = '<script>alert("1")</script>'


class Page(HTMLParser):
    """Tags, their attributes and the text of a page; refuses tags that do not close in order."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A finished run, a stopped one of a paper's row, and one that has just begun."""
    root = tmp_path_factory.mktemp("runs")
    of = synthetic.recipe(
        name="half-way",
        data={"dataset": "mnist"},
        paper=[
            {"paper": "rcig", "table": "2", "dataset": "mnist", "images_per_class": 1,
             "method": "RCIG"}
        ],
    )  # fmt: skip
    scored = synthetic.result(of, [0.9])
    return [
        synthetic.finished_run(root / "whole"),
        synthetic.write_run(
            root / "half-way",
            of,
            lines=synthetic.metrics(40),
            record=synthetic.record("stopped", 40, [scored]),
        ),
        synthetic.write_run(root / "begun", synthetic.recipe()),
    ]


@pytest.fixture(scope="module")
def path(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "report.html"
    write(runs, out)
    return out


@pytest.fixture(scope="module")
def page(path: Path) -> Page:
    return Page(path)


def test_nothing_is_fetched_from_anywhere(page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "xlink:href", "action", "data", "poster"):
                assert value.startswith(("#", "data:image/png;base64,")), (tag, name, value[:60])
            else:
                assert not urlparse(value).netloc
    source = re.sub(r"data:image/png;base64,[\w+/=]*", "", page.source)
    assert not re.search(r"https?:|//[a-z]|@import|@font-face", source)
    assert not re.search(r"url\((?!#)", source)


def test_every_image_decodes_and_every_target_exists(page: Page) -> None:
    sources = [attributes["href"] for attributes in page.of("image")]
    assert len(sources) >= 2
    for source in sources:
        content = base64.b64decode(source.partition(",")[2], validate=True)
        Image.open(io.BytesIO(content)).load()
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {
        value[1:]
        for _, attributes in page.tags
        for name, value in attributes.items()
        if (name == "href" and value.startswith("#"))
    }
    targets |= set(re.findall(r"url\(#([^)]+)\)", page.source))
    targets |= {a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a}
    assert targets <= set(ids)


def test_the_page_can_be_read_without_seeing_it(page: Page) -> None:
    assert page.of("html")[0]["lang"] == "en"
    assert "width=device-width" in page.source
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    roles = [a for _, a in page.tags if a.get("role") in ("img", "region")]
    assert roles and all(a.get("aria-label") for a in roles)
    for svg in page.of("svg"):
        assert svg.get("aria-hidden") == "true" or svg.get("aria-label")
    assert "10 distilled images, one row for each of 10 classes: zero, one" in page.source
    assert "loss: " in page.source and "at iteration 200" in page.source


def test_the_numbers_are_there(page: Page) -> None:
    for words in (
        "82.0 ± 1.6",
        "81.0, 83.0, 82.0, 80.0, 84.0",
        "56.8 ± 4.4",
        "+25.2 gained",
        "40 of 200",
        "94.7 ± 0.5",
        "−4.7",  # noqa: RUF001
        "network width 16 (the paper's 128)",
        "iterations 200 (the paper's 15,000)",
        "unfinished, after 40 iterations",
        "whole : its recipe stands for no row of a paper.",
        "potstill distill recipe.yaml --seed 0",
        "Target batch 32 s 46 %",
        "torch 2.11.0",
        "cpu",
    ):
        assert words in page.text, words
    assert "steps_per_visit" in page.text


def test_what_is_missing_is_said(page: Page) -> None:
    for words in (
        "The run is unfinished; potstill distill with --resume goes on with it.",
        "There is no distilled set yet",
        "Nothing has been logged",
        "The run has left no record",
        "not evaluated",
        "not measured",
    ):
        assert words in page.text, words


def test_the_same_runs_give_the_same_bytes(runs: list[Path], path: Path, tmp_path: Path) -> None:
    write(runs, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == path.read_bytes()


def test_hostile_names_are_text(tmp_path: Path) -> None:
    of = synthetic.recipe(name=HOSTILE, description=f"{HOSTILE} {{{{ 7 * 7 }}}}")
    images, labels = synthetic.digits()
    plain = synthetic.distilled(of, images, labels, synthetic.DIGITS)
    names = [HOSTILE, '"><img src=x onerror=alert(1)>', "]]>", "$\\frac{", "&amp;", *"fghij"]
    dataset = DistilledDataset(plain.images, plain.labels, names, plain.preprocess, plain.header)
    scored = synthetic.result(of, [0.5, 0.6]) | {"protocol": HOSTILE, "warnings": [HOSTILE]}
    record = synthetic.record("finished", 200, [scored])
    record["machine"] = record["versions"] = {HOSTILE: HOSTILE}
    record["seconds"]["parts"] = {HOSTILE: 3.0}
    lines = [line | {HOSTILE: 1.0} for line in synthetic.metrics(5)]
    folder = tmp_path / "<b onclick=alert(1)>"
    synthetic.write_run(folder, of, lines=lines, record=record, dataset=dataset)
    write([folder], tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "img", "b"}
    assert not any(name.startswith("on") for _, a in page.tags for name in a)
    assert html.escape(HOSTILE, quote=False)[:20] in page.source
    assert HOSTILE in page.text and "{{ 7 * 7 }}" in page.text


def test_a_dwa_run_is_told_whole(tmp_path: Path) -> None:
    write([synthetic.dwa_run(tmp_path / "run")], tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    for words in (
        "98.5 % on the test set",
        "Iterations 4 x 40",
        "best on test 92.5 ± 1.0",
        "labels on the fly",
        "400 epochs",
        "resnet18, batch norm",
        "Batch-norm terms",
        "Synthesis 20 s 65 %",
        "0.75 times as far apart as real ones",
        "Distilled images 3 2 4",
        "How the teacher sees them.",
    ):
        assert words in page.text, words
    assert "Learned labels" not in page.text
    assert "15 distilled images and 45 real images of zero, one, two" in page.source


def test_an_abbreviation_ends_its_sentence_with_one_full_stop(tmp_path: Path) -> None:
    network = audit_records.NETWORK | {"normalisation": "batch"}
    audit = audit_records.scores(network=network)
    write([audit_records.audited_run(tmp_path / "run", audit)], tmp_path / "page.html")
    text = Page(tmp_path / "page.html").text
    assert ".." not in text


def test_seconds_have_a_row_of_their_own(tmp_path: Path) -> None:
    row = {"paper": "dwa", "table": "11", "dataset": "cifar100", "images_per_class": 1}
    of = row | {"method": "DWA", "distill_arch": "resnet18"}
    write([synthetic.dwa_run(tmp_path / "run", paper=[of])], tmp_path / "page.html")
    text = Page(tmp_path / "page.html").text
    assert "DWA, Table 11: DWA, CIFAR-100, 1 per class, resnet18: seconds for an image" in text
    assert "10.0 s cpu 125.1 s 8 %" in text and "stands for no row" not in text


def test_a_page_of_one_run_has_no_overview(runs: list[Path], tmp_path: Path) -> None:
    write(runs[:1], tmp_path / "one.html")
    page = Page(tmp_path / "one.html")
    assert "Distillation of whole" in page.text
    assert "Accuracy of the runs" not in page.text


def test_many_images_leave_the_label_map_out(tmp_path: Path) -> None:
    folder = synthetic.finished_run(tmp_path / "many", images_per_class=21)
    write([folder], tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    assert "210 images of 8 by 8 pixels" in page.text
    assert "Learned labels" not in page.text


def test_no_page_where_none_can_be(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(RunError):
        write(runs[2:], tmp_path / "absent" / "page.html")
    with pytest.raises(RunError):
        write([tmp_path], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
PROBE = """<script>addEventListener("load", () => {
  const width = document.documentElement.clientWidth;
  const wide = [...document.querySelectorAll("body *")].filter(element =>
    !element.closest(".scroll, pre, svg") && element.getBoundingClientRect().right > width + 1);
  const over = document.documentElement.scrollWidth - width;
  document.title = ["PROBE", innerWidth, over, wide.length].join(" ");
});</script>"""
COLLECT = """<script>addEventListener("load", () => {
  document.title = [...document.querySelectorAll("iframe")]
    .map(frame => frame.contentDocument.title).join(";");
});</script>"""


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_a_browser_lays_the_page_out_without_overflow(path: Path, tmp_path: Path) -> None:
    probed = re.sub(r"<meta http-equiv[^>]*>", "", path.read_text(encoding="utf-8"))
    (tmp_path / "probed.html").write_text(probed.replace("</head>", PROBE + "</head>"))
    # A browser's window has a least width, a frame has none.
    widths = (360, 768, 1440)
    frames = "".join(
        f'<iframe src="probed.html" style="width:{width}px;height:900px;border:0"></iframe>'
        for width in widths
    )
    (tmp_path / "frames.html").write_text(frames + COLLECT)
    assert BROWSER is not None
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
    flags += " --disable-background-networking --disable-component-update --dump-dom"
    flags += " --allow-file-access-from-files --window-size=1600,1000 --virtual-time-budget=5000"
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [BROWSER, *flags.split(), profile, (tmp_path / "frames.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = re.findall(r"PROBE (\d+) (-?\d+) (\d+)", done.stdout)
    assert found == [(str(width), "0", "0") for width in widths], done.stderr[-2000:]
