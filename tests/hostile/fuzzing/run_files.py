"""What a run's folder holds beside its binary files: record, log and recipe."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from random import Random

import yaml

from potstill import runs
from potstill.methods.squeeze import TEACHER
from tests.data.test_distilled import result
from tests.hostile.damage import damaged
from tests.hostile.fuzzing import material
from tests.hostile.fuzzing.uses import Use, command
from tests.hostile.mutations import mutated
from tests.report import audit_records

_NAMES = (runs.RECORD, runs.METRICS, runs.RECIPE)
_LINES = (
    *('{"iteration": 1e999, "loss": 1}', '{"iteration": 2, "loss": 1' + "0" * 5000 + "}", "[]"),
    *('{"iteration": -1, "loss": 1}', '{"iteration": null}', '{"loss": 2}', "{}", "7", '"x"'),
    *('{"iteration": 2, "loss": NaN}', '{"iteration": 2, "loss": "1"}', "[" * 100_000, "\0"),
    *('{"iteration": 2, "\\u001b[2J": 1}', '{"iteration": 2, "\\ud800": 1}', "{" + "\n" * 99),
    *('{"iteration": 2, "iteration": 3}', '{"iteration": 2.5, "loss": true}', "null", "\r\x0b\x85"),
    *('{"iteration": 99999999999999999999999, "loss": 1e308}', '{"iteration": "2", "loss": [1]}'),
    "{" + ", ".join(f'"x{number}": 1' for number in range(3000)) + ', "iteration": 1}',
)


class RunFile:
    """A finished run that somebody else sent, or that went wrong."""

    def __init__(self, folder: Path) -> None:
        self._runs = {method: material.run(method, folder) for method in material.METHODS}
        self._runs["dwa"] = Path(shutil.copytree(self._runs["dwa"], folder / "recorded"))
        record = self._runs["dwa"] / runs.RECORD
        document = json.loads(record.read_text())
        audits = (audit_records.membership(), audit_records.scores())
        document |= {"results": [result()], "audits": [*document["audits"], *audits]}
        record.write_text(json.dumps(document))

    def good(self, place: Path) -> list[Use]:
        return [use for method in material.METHODS
                for use in self._uses(method, self._copy(method, place / method))]  # fmt: skip

    def hostile(self, place: Path, random: Random) -> list[Use]:
        method = random.choice(material.METHODS)
        run = self._copy(method, place / "run")
        if random.random() < 0.3:
            (run / runs.DISTILLED).unlink()
        for name in random.sample(_NAMES, random.choice([1, 1, 2])):
            _change(run / name, random)
        uses = self._uses(method, run)
        return [uses[0], random.choice(uses[1:])]

    def _copy(self, method: str, to: Path) -> Path:
        return Path(shutil.copytree(self._runs[method], to))

    def _uses(self, method: str, run: Path) -> list[Use]:
        page = run.parent / "page.html"
        audit = ["diversity", run / runs.DISTILLED, "--no-real", "--device", "cpu"]
        if method != "dwa":
            audit += ["--teacher", self._runs["dwa"] / TEACHER]
        return [
            command("report", run, "--out", page),
            command(*material.distil(method, run, "--resume")),
            command(*audit),
        ]


def _change(path: Path, random: Random) -> None:
    content = path.read_bytes() if path.is_file() else b""
    way = random.random()
    if way < 0.08:
        path.unlink(missing_ok=True)
        random.choice([os.mkfifo, os.mkdir, _to_zeros, _to_itself, lambda _: None])(path)
    elif way < 0.4:
        path.write_bytes(damaged(content, random))
    elif path.name == runs.METRICS:
        lines = content.decode(errors="replace").splitlines()
        lines.insert(random.randrange(len(lines) + 1), random.choice(_LINES))
        path.write_bytes("\n".join(lines).encode() + random.choice([b"\n", b""]))
    elif path.name == runs.RECORD:
        document = mutated(_mapping(content), random)
        text = json.dumps(document).replace('"NaN"', random.choice(["NaN", "1e999", "[" * 50_000]))
        path.write_text(text)
    else:
        path.write_text(json.dumps(mutated(_mapping(content), random)))


def _mapping(content: bytes) -> dict[str, object]:
    """What a file says that may be changed already."""
    try:
        document = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError):
        document = None
    return document if isinstance(document, dict) else {"format": 1}


def _to_zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _to_itself(path: Path) -> None:
    path.symlink_to(path.name)
