"""Where tables' sets are distilled and measured: folders, data, teachers, one thing after another.

Everything that was done is found again in the folders, so that nothing is done twice and a
stopped reproduction goes on where it was. Below the output folder lie

    rcig/mnist-ipc1/seed0        the run of a recipe and a seed
    rcig/mnist-ipc1-1a2b3c4d/    the same recipe with other settings
    teachers/1a2b3c4d5e6f7a8b/   a teacher that several recipes share
    units/1a2b3c4d5e6f7a8b/      finished units of work that sets of several sizes share

and in caches, of the names that commands use: ``timings`` of networks, networks of ``attacks``,
``classes`` learned.
"""

from __future__ import annotations

from pathlib import Path

from potstill import evaluation, runs
from potstill.data.distilled import DistilledDataset
from potstill.evaluation.protocol import named
from potstill.methods.recipe import DESCRIPTIVE
from potstill.papers.answers import Measurement
from potstill.progress import Progress, staged
from potstill.reproduce.auditing import audit
from potstill.reproduce.bench import Bench, digest
from potstill.reproduce.found import Number, number_in, other_teacher
from potstill.runs.records import RunRecord
from potstill.teacher import Teacher
from potstill.text import network_text

_CACHES = {"membership": "attacks", "continual": "classes"}


class Workplace(Bench):
    """A bench where tables' sets are made, measured and found again."""

    # What is there

    def folder(self, measurement: Measurement, seed: int) -> Path:
        """The folder of the run of the measurement's set."""
        name = measurement.recipe
        if measurement.assignments:
            settings = measurement.load().model_dump(mode="json", exclude={*DESCRIPTIVE, "seed"})
            name += f"-{digest(settings)[:8]}"
        return self.out / name / f"seed{seed}"

    def run(self, measurement: Measurement, seed: int) -> RunRecord | None:
        """The run of the measurement's set; None if it has not begun. The last one is kept in mind.

        Raises:
            RunError, ArtefactError: it is damaged.
        """
        return self.record(self.folder(measurement, seed))

    def finished(self, measurement: Measurement, seed: int) -> bool:
        """Whether the measurement's set is distilled.

        Raises:
            RunError, ArtefactError: its run is damaged.
        """
        return self.made(self.folder(measurement, seed))

    def measured(self, measurement: Measurement, seed: int) -> Number | None:
        """What the folders hold of this; None if it has not been measured.

        Raises:
            RunError, ArtefactError: its run is damaged.
        """
        run = self.run(measurement, seed)
        return None if run is None else number_in(run, measurement, seed)

    # Work

    def distil(self, measurement: Measurement, seed: int, progress: Progress) -> None:
        """Distil the measurement's set, or go on with it; nothing if it is there.

        Raises:
            PotstillError: what the method raises.
            KeyboardInterrupt: after a checkpoint was written.
        """
        self.make(measurement.load(seed), self.folder(measurement, seed), progress)

    def evaluate(self, measurement: Measurement, seed: int, progress: Progress) -> None:
        """Score the measurement's set, and keep the result in it.

        Raises:
            PotstillError: what the evaluation raises.
        """
        folder = self.folder(measurement, seed)
        source = self.source(measurement.load(seed).data)
        dataset = self.refitted(DistilledDataset.load(folder / runs.DISTILLED), source)
        protocol = named(measurement.protocol)
        wanted = protocol.takes_teacher and not _labelled(dataset)
        stage = f"{network_text(measurement.network)}: evaluation step"
        result = evaluation.evaluate(
            dataset,
            source,
            protocol=protocol,
            network=measurement.network,
            seed=seed,
            device=self.device,
            teacher=self._labeller(measurement, seed) if wanted else None,
            best=protocol.publishes_best,
            progress=staged(progress, stage),
        )
        DistilledDataset.add_result(folder / runs.DISTILLED, result.document())

    def audit(self, measurement: Measurement, seed: int, progress: Progress) -> None:
        """Make the audit that the measurement is a number of, and keep it in the run.

        Raises:
            PotstillError: what the audit raises.
            KeyboardInterrupt: the networks or tasks that were finished are in the cache.
        """
        folder, kind = self.folder(measurement, seed), measurement.quantity
        wanted = kind == "continual" and named(measurement.protocol).takes_teacher
        source = self.source(measurement.load(seed).data)
        found = audit(
            measurement,
            self.refitted(DistilledDataset.load(folder / runs.DISTILLED), source),
            source,
            self._labeller(measurement, seed) if wanted else None,
            seed=seed,
            device=self.device,
            cache=self._caches(_CACHES[kind]),
            progress=progress,
        )
        runs.record_audit(folder, found.document())

    def _labeller(self, measurement: Measurement, seed: int) -> Teacher:
        """The teacher that the measurement's run has in its folder."""
        return self.labeller(measurement.load(seed), self.folder(measurement, seed))


def _labelled(dataset: DistilledDataset) -> bool:
    """Whether it stores the labels of the teacher it was made from."""
    labels = dataset.header.get("relabelling", {}).get("teacher")
    return dataset.soft_labels is not None and not other_teacher(labels, dataset)
