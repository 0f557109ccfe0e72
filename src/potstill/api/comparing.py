"""Methods and sets side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from potstill import comparing
from potstill.api import inputs
from potstill.api.inputs import ProgressLike, device_of, shown
from potstill.comparing import Say
from potstill.comparison import Comparison


def compare(
    methods: Sequence[str | Path],
    *,
    out: Path | str = "runs/comparison",
    images_per_class: Sequence[int] = (),
    seeds: Sequence[int] = (),
    protocols: Sequence[str] = (),
    network: str | None = None,
    networks: int | None = None,
    epochs: int | None = None,
    teacher: str | Path | None = None,
    settings: Sequence[str] = (),
    module: str | None = None,
    data_root: str | Path | None = None,
    device: str = "auto",
    download: bool = False,
    cache: str | Path | None = None,
    budget: float | None = None,
    workers: int = 1,
    say: Say = lambda _line: None,
    progress: ProgressLike = False,
) -> Comparison:
    """Set methods and distilled sets beside each other; make and score what is missing.

    As :func:`potstill.comparing.compare`, which says what each argument is and what is raised;
    ``device`` may be "auto", which prefers cuda, ``data_root`` is what the environment says if
    None, and ``progress`` True for a bar.
    """
    with shown(progress) as tell:
        return comparing.compare(
            methods,
            out=out,
            images_per_class=images_per_class,
            seeds=seeds,
            protocols=protocols,
            network=network,
            networks=networks,
            epochs=epochs,
            teacher=teacher,
            settings=settings,
            module=module,
            data_root=inputs.data_root(data_root),
            device=device_of(device),
            download=download,
            cache=cache,
            budget=budget,
            workers=workers,
            say=say,
            progress=tell,
        )
