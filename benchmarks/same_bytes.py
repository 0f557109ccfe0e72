"""Digests of what short runs distil, to hold one version of the code against another.

    python benchmarks/same_bytes.py [--data-root DIR] [--out FILE.json]

Each set is distilled in a folder that is thrown away, on one thread; what is printed is the SHA-256
of its images and of its labels. Two versions of the code on one machine should print the same
lines, unless a change says that it alters the result of a recipe. MNIST is left out without a data
root.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

CASES: dict[str, list[str]] = {
    "quickstart/digits-rcig": [],
    "quickstart/digits-dwa": [],
    "rcig/mnist-ipc1-cpu": ["method.iterations=20"],
}


def main() -> None:
    """Distil each case and print its digests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", default=None)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    found = {}
    for recipe, assignments in CASES.items():
        if arguments.data_root is None and "digits" not in recipe:
            continue
        found[recipe] = digests(recipe, assignments, arguments.data_root)
        for name, digest in found[recipe].items():
            print(f"{recipe}  {name}  {digest}", flush=True)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(found, indent=2) + "\n")


def digests(recipe: str, assignments: list[str], root: str | None) -> dict[str, str]:
    """Of the images and the labels that the recipe gives."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "potstill", "distill", recipe, "--out", f"{folder}/run"]
        command += [word for one in assignments for word in ("--set", one)]
        command += [] if root is None else ["--data-root", root]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        return read(Path(folder) / "run" / "distilled.safetensors")


def read(path: Path) -> dict[str, str]:
    """The digests of one set's tensors as they lie in the file."""
    import safetensors.torch

    tensors = safetensors.torch.load_file(path)
    return {
        name: hashlib.sha256(tensors[name].numpy().tobytes()).hexdigest()
        for name in ("images", "labels")
    }


if __name__ == "__main__":
    main()
