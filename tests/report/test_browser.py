"""The page in a real browser, at the widths of a phone and of a desk."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from potstill.report import write
from tests.report import audit_records, synthetic

WIDTHS = (390, 360, 1440)
BROWSER = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)
PROBE = """
const frames = [...document.querySelectorAll("iframe")];
async function decoded(image) {
  const copy = new Image();
  copy.src = image.getAttribute("href") || image.src;
  try { await copy.decode(); return copy.naturalWidth > 0; } catch { return false; }
}
function beyond(text) {
  const inner = text.getBoundingClientRect();
  const outer = text.closest("svg").getBoundingClientRect();
  return inner.left < outer.left - 1 || inner.right > outer.right + 1;
}
async function look(frame) {
  const page = frame.contentDocument, root = page.documentElement;
  const images = [...page.querySelectorAll("image, img")];
  const outside = [...page.querySelectorAll("body *")].filter(element => {
    const inside = element.closest(".scroll, pre, svg");
    return !(inside && inside !== element) &&
      element.getBoundingClientRect().right > root.clientWidth + 1;
  });
  return {
    width: root.clientWidth, reach: root.scrollWidth, images: images.length,
    decoded: (await Promise.all(images.map(decoded))).filter(Boolean).length,
    headings: page.querySelectorAll("h3").length,
    font: frame.contentWindow.getComputedStyle(page.body).fontSize,
    scrolled: [...page.querySelectorAll(".scroll")]
      .filter(region => region.scrollWidth > region.clientWidth)
      .map(region => region.getAttribute("aria-label")),
    cut: [...page.querySelectorAll("svg.plot text")].filter(beyond).map(text => text.textContent),
    hidden: [...page.querySelectorAll("thead th")]
      .filter(head => /^(Accuracy|Ours|Mean)/.test(head.textContent))
      .filter(head => head.getBoundingClientRect().right > root.clientWidth)
      .map(head => head.textContent),
    outside: outside.slice(0, 5).map(element => element.outerHTML.slice(0, 120)),
  };
}
// Virtual time runs out at once when nothing is scheduled, as while an image is decoded.
const awake = setInterval(() => {}, 1);
addEventListener("load", async () => {
  const seen = await Promise.all(frames.map(look));
  document.getElementById("seen").textContent = JSON.stringify(seen);
  clearInterval(awake);
});
"""

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no chromium, chromium-browser or google-chrome on PATH"
)


def browse(page: str, folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """What each width shows, and what the browser complained of."""
    assert BROWSER is not None
    frames = "".join(
        f'<iframe width="{width}" height="800" style="border:0" srcdoc="{html.escape(page)}">'
        "</iframe>"
        for width in WIDTHS
    )
    harness = folder / "harness.html"
    harness.write_text(
        f'<!DOCTYPE html><meta charset="utf-8"><pre id="seen"></pre>{frames}'
        f"<script>{PROBE}</script>",
        encoding="utf-8",
    )
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += ["--hide-scrollbars", "--enable-logging=stderr", "--virtual-time-budget=20000000"]
    command += ["--disable-background-networking", f"--user-data-dir={folder / 'profile'}"]
    done = subprocess.run(
        [*command, harness.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert found is not None and found[1], done.stderr[-2000:]
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(found[1])), complaints


def students(folder: Path) -> Path:
    """A run that was evaluated on many networks, everything about which is long."""
    of = synthetic.dwa_recipe(evaluation={"protocol": "rcig-transfer-augmented"})
    best = {"mean": 0.925, "std": 0.012, "values": [0.92, 0.93]}
    results = [
        synthetic.result(of, [0.9, 0.92, 0.91, 0.93, 0.9], [0.8, 0.82])
        | {"network": {"normalisation": norm, "growth": 1}, "best_on_test": best}
        | {"protocol": protocol, "epochs": 1200, "steps": 1_200_000, "seconds": 43_000.0}
        | {"labels": "on the fly"}
        for norm in ("none", "batch", "instance")
        for protocol in ("rcig-transfer-augmented", "rcig-as-run")
    ]
    record = synthetic.record("finished", 200, results)
    return synthetic.write_run(folder, of, record=record)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("browser")
    audits = (audit_records.scores(), audit_records.membership(), audit_records.continual())
    runs = [
        audit_records.audited_run(root / "audited", *audits, name="a-recipe-with-a-long-name" * 3),
        synthetic.dwa_run(root / "dwa"),
        students(root / "students"),
    ]
    write(runs, root / "report.html")
    return (root / "report.html").read_text(encoding="utf-8")


def test_the_page_is_whole_at_both_widths(page, tmp_path):
    seen, complaints = browse(page, tmp_path)
    assert complaints == []
    assert [view["width"] for view in seen] == list(WIDTHS)
    for view in seen:
        assert view["reach"] == view["width"], view["outside"]
        assert view["outside"] == []
        assert view["images"] == view["decoded"] >= 2
        assert view["headings"] >= 10
        assert view["font"] == "16px"
        assert view["cut"] == []
        assert view["hidden"] == []
    assert seen[-1]["scrolled"] == []


def test_the_test_sees_what_is_wrong(page, tmp_path):
    """A page with each of the faults, so that silence means something."""
    broken = page.replace(
        "</main>",
        '<div style="width:2000px">wide</div><img src="data:image/png;base64,AAAA" alt="">'
        '<table style="margin-left:1900px"><thead><tr><th>Accuracy</th></tr></thead></table>'
        '<div class="scroll" aria-label="far"><div style="width:3000px">far</div></div>'
        '<svg class="plot" viewBox="0 0 9 9"><text x="5" font-size="9">long</text></svg>'
        "<script>1</script></main>",
    )
    seen, complaints = browse(broken, tmp_path)
    assert complaints
    for view in seen:
        assert view["reach"] > view["width"]
        assert view["decoded"] == view["images"] - 1
        assert view["cut"] == ["long"]
        assert view["hidden"] == ["Accuracy"]
        assert "far" in view["scrolled"]
