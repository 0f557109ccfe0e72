"""What only a machine with a card can show, in the order of its worth, in pieces of ten minutes.

    python benchmarks/gpu.py --out WORK --results FOLDER [--minutes 9] [--data-root DIR]
                             [--image-folder NAME] [--only tests rcig-step ...]

First the tests marked ``gpu``: sets made on the card equal those made on the processor within
tolerance, and memory does not grow where it should not. Then the step benchmarks, then rows of
the papers' tables at full size: a run is stopped when the time is up, and the next call goes on
with it. A piece that is done leaves ``FOLDER/NAME.json`` and is not done again. Rows need MNIST
and Fashion-MNIST under the data root; those of CIFAR-10 want it as a folder of class folders, so
that their numbers carry that folder's name.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from potstill import surroundings

HERE = Path(__file__).parent
POTSTILL = [sys.executable, "-m", "potstill"]
_STOPPING = 45
"""Seconds that a run may take to write its checkpoint."""


@dataclass(frozen=True)
class Row:
    """A recipe that is run whole, and how its set is scored beside random real images."""

    recipe: str
    scored: tuple[str, ...] = ("--baseline",)
    folder: bool = False
    """Whether its images come from the folder of class folders."""


ROWS = {
    "mnist-1": Row("rcig/mnist-ipc1"),
    "fashion-mnist-1": Row("rcig/fashion-mnist-ipc1"),
    "cifar10-1": Row("rcig/cifar10-ipc1", folder=True),
    "cifar10-10-dwa": Row("dwa/cifar10-ipc10-resnet18", ("--best",), folder=True),
    "cifar10-10-sre2l": Row("dwa/cifar10-ipc10-resnet18-sre2l", ("--best",), folder=True),
}


class TimeIsUpError(Exception):
    """What is being done goes on with the next call."""


class Bench:
    """The pieces, and the time that is left for them."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.end = time.monotonic() + 60 * arguments.minutes
        self._device = ["--device", arguments.device]
        self.pieces = {
            "tests": self.tests,
            "rcig-step": lambda: self.benchmark("rcig_step", *self._device, *self._data()),
            "dwa-step": lambda: self.benchmark("dwa_step", *self._device, "--compile"),
            "dwa-step-eager": lambda: self.benchmark("dwa_step", *self._device),
            "evaluate": lambda: self.benchmark("evaluate"),
            "dwa-workers": self.workers,
            **{name: lambda row=row: self.row(row) for name, row in ROWS.items()},
            "students": self.students,
        }

    def run(self) -> None:
        """Do what is not done yet, until the time is up."""
        self.arguments.results.mkdir(parents=True, exist_ok=True)
        for name, piece in self.pieces.items():
            kept = self.arguments.results / f"{name}.json"
            if kept.exists() or (self.arguments.only and name not in self.arguments.only):
                continue
            print(f"{name}: begun", flush=True)
            start = time.monotonic()
            try:
                found = piece()
            except TimeIsUpError:
                print(f"{name}: time is up; call again to go on", flush=True)
                return
            except subprocess.CalledProcessError as error:
                print(f"{name}: failed ({error})", flush=True)
                continue
            document = {
                "seconds_of_this_call": time.monotonic() - start,
                "machine": surroundings.machine(self.arguments.device),
                "versions": surroundings.versions(),
                "found": found,
            }
            kept.write_text(json.dumps(document, indent=1))
            print(f"{name}: done in {document['seconds_of_this_call']:.0f} s", flush=True)

    def tests(self) -> object:
        """The last line of the tests marked ``gpu``."""
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
        return self.output([*command, str(HERE.parent / "tests" / "devices")]).splitlines()[-1]

    def benchmark(self, name: str, *words: str) -> object:
        """The document that a benchmark prints."""
        return json.loads(self.output([sys.executable, f"{HERE / name}.py", "--json", *words]))

    def workers(self) -> object:
        """Seconds of a run whose groups are small, by how many are made at a time, and its digest.

        Such groups keep a card waiting for what it is to do next; processes share it.
        """
        found = {}
        recipe = [*POTSTILL, "distill", "quickstart/digits-dwa", *self._device]
        teacher = self.arguments.out / "workers-teacher"
        words = [*POTSTILL, "teacher", "quickstart/digits-dwa", *self._device]
        self.output([*words, "--out", str(teacher)])
        for number in (1, 2, 4):
            run = self.arguments.out / f"workers-{number}"
            shutil.rmtree(run, ignore_errors=True)
            start = time.monotonic()
            named = ["--teacher", str(teacher / "teacher.safetensors"), "--out", str(run)]
            self.output([*recipe, *named, "--workers", str(number)])
            seconds = time.monotonic() - start
            info = self.output([*POTSTILL, "info", str(run / "distilled.safetensors"), "--json"])
            found[number] = {"seconds": seconds, "digest": json.loads(info)["digest"]}
        return found

    def students(self) -> object:
        """Seconds and accuracy of students in each precision, on a set that a row above made."""
        row = ROWS["cifar10-10-dwa"]
        kept = self.arguments.results / f"{row.recipe.replace('/', '-')}.safetensors"
        run = self.arguments.out / row.recipe.replace("/", "-")
        words = [*POTSTILL, "evaluate", str(kept), *self._device, *self._data(), "--json"]
        words += ["--no-save", "--teacher", str(run / "teacher.safetensors"), "--networks", "3"]
        return {
            precision: json.loads(self.output([*words, "--precision", precision]))
            for precision in ("float32", "bfloat16")
        }

    def row(self, row: Row) -> object:
        """Distil, or go on with it, and score; what the scoring says and the run took."""
        run = self.arguments.out / row.recipe.replace("/", "-")
        there = (run / "recipe.yaml").exists()
        command = [
            *POTSTILL,
            "distill",
            row.recipe,
            "--device",
            self.arguments.device,
            "--out",
            str(run),
        ]
        settings = self._folder(row) if row.folder else []
        self.output([*command, *self._data(), *(["--resume"] if there else settings)])
        kept = self.arguments.results / f"{row.recipe.replace('/', '-')}.safetensors"
        shutil.copy(run / "distilled.safetensors", kept)
        command = [
            *POTSTILL,
            "evaluate",
            str(kept),
            "--device",
            self.arguments.device,
            "--json",
            *self._data(),
        ]
        scores = json.loads(self.output([*command, *row.scored]))
        return {"scores": scores, "record": json.loads((run / "record.json").read_text())}

    def output(self, command: Sequence[str]) -> str:
        """What a command prints; it is stopped, as by Ctrl-C, when the time is up."""
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                printed, _ = process.communicate(timeout=max(self.end - time.monotonic(), 1))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
                try:
                    process.communicate(timeout=_STOPPING)
                except subprocess.TimeoutExpired:
                    process.kill()
                raise TimeIsUpError from None
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        return printed

    def _data(self) -> list[str]:
        root = self.arguments.data_root
        return ["--data-root", str(root)] if root else []

    def _folder(self, row: Row) -> list[str]:
        keys = {"dataset": "image_folder", "folder": self.arguments.image_folder, "resolution": 32}
        words = [f"data.{key}={value}" for key, value in keys.items()]
        return [word for pair in zip(["--set"] * len(words), words, strict=True) for word in pair]


def main() -> None:
    """Do the pieces that are not done yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="runs, to go on with")
    parser.add_argument("--results", type=Path, required=True, help="what is done")
    parser.add_argument("--device", default="cuda", help="another only to try this script")
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--image-folder", default="cifar10-jpeg")
    parser.add_argument("--only", nargs="+", metavar="PIECE")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no card that PyTorch can use")
    Bench(arguments).run()


if __name__ == "__main__":
    main()
