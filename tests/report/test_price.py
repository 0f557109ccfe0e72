"""What a page says of regimes, of other real images beside a set, and of what it costs."""

from __future__ import annotations

from pathlib import Path

from potstill.report import write
from potstill.results import Evaluation, Price
from tests.report import synthetic
from tests.report.test_page import Page

PRICE = Price(
    images=2560,
    labels=200,
    preprocessing=0,
    labeller=44_700_000,
    total=44_702_760,
    bits_per_class=35_762_208.0,
    storage_ratio=0.5,
    operations=1.25e9,
    random_images=1442,
)


def test_a_page_shows_regime_price_and_what_stands_beside(tmp_path: Path) -> None:
    of = synthetic.recipe()
    beside = [
        {"kind": "equal-bytes random", "mean": 0.61, "std": 0.0, "values": [0.61]}
        | {"images": 1442, "protocol": "sl:500"},
        {"kind": "all real images", "mean": 0.93, "std": 0.0, "values": [0.93]}
        | {"images": 1442, "protocol": "sl-kd:500"},
    ]
    changes = {"protocol": "sl-kd:500", "presentations": 500, "labels": "on the fly"}
    scored = synthetic.result(of, [0.7, 0.8], [0.5, 0.6]) | changes
    scored |= {"beside": beside, "price": PRICE.document()}
    assert Evaluation.model_validate(scored).document().keys() == scored.keys()
    dataset = synthetic.distilled(of, *synthetic.digits(), synthetic.DIGITS, [scored])
    record = synthetic.record("finished", of.method.iterations)
    folder = synthetic.write_run(tmp_path / "run", of, record=record, dataset=dataset)
    write([folder], tmp_path / "page.html")
    shown = Page(tmp_path / "page.html")
    assert "sl-kd:500 labels on the fly 44.7 MB 35.8 Mbit a class" in shown.text
    assert "500 images shown" in shown.text
    row = shown.text.split("Each network")[1]
    assert "55.0 ± 7.1 2 networks equal-bytes random (sl:500, 1,442 images) 61.0" in row
    assert "all real images (sl-kd:500, 1,442 images) 93.0" in row
    (title,) = (a["title"] for tag, a in shown.tags if tag == "th" and "title" in a)
    assert title.startswith("2.56 kB images + 200 B labels + 44.7 MB labeller; ")
