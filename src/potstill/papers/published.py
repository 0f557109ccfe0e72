"""Distilled sets that others have published, and how each becomes one of potstill's.

A registry of plain records: a :class:`Collection` says what is true of all sets that one group
published in one form, and each of its :class:`Published` which of them it is. Another set is one
line, another group's a record. The command of each is what ``potstill gallery`` prints; a test
parses every one and imports a stand-in of every form.

How a statement is known stands beside it (``known``). None of the files was at hand when this was
written, so that nothing here was scored by potstill.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from potstill.config import PaperRow
from potstill.data.facts import DATASETS
from potstill.papers.rows import Row, find

DATA_ROOT = "data"
"""Where the commands look for the real data."""
OUT = "runs/published"
"""Where the commands put their sets."""


@dataclass(frozen=True)
class Published:
    """One set of a collection."""

    dataset: str
    """The data set it stands for, as recipes name it."""
    images_per_class: int
    claim: float | None = None
    """Accuracy in percent that its publisher states; None where none is known."""
    file: str = ""
    """Its file or folder, where the collection's pattern does not give it."""
    statistics: str = ""
    """As the collection's, where this set has others."""
    variant: str = ""
    """What tells it from another of its data set and size, in a word."""
    options: str = ""
    """Of ``potstill import``, beside those of the collection."""
    remark: str = ""
    quoted: bool = True
    """Whether the papers' tables speak of this set where they name its method and size."""


@dataclass(frozen=True, kw_only=True)
class Collection:
    """The sets that one group published in one form, and what is true of all of them."""

    name: str
    """The first part of its sets' names, such as ``dm``."""
    method: str
    """As the papers' tables call it."""
    paper: str
    where: str
    """Who publishes the files, and where."""
    form: str
    """What a file holds."""
    file: str
    """Pattern of the files' names with ``{dataset}``, the publisher's word for the data, ``{ipc}``
    and ``{images}``, their number."""
    words: dict[str, str]
    """The publisher's word for each data set."""
    space: str
    """What the numbers are: pixels, standardised or zca."""
    statistics: str
    """The data set whose constants (:data:`potstill.data.facts.DATASETS`) standardise, ``own`` for
    the one that a set stands for; ``fitted``: its training images are measured."""
    options: str
    """Of ``potstill import``: labels, mirror images, network and protocol; ``{folder}`` is the
    file's."""
    known: str
    """How the statement is known."""
    sets: tuple[Published, ...]
    claimed: str = ""
    """Whose numbers ``Published.claim`` are, and how they were taken."""
    before: str = ""
    """Python that turns the published ``{file}`` into ``{set}.npz``, which can be imported, run
    where what it imports is installed; empty if the file can be read as it is."""
    remark: str = ""


_DC_BENCH = "DC-BENCH (Cui et al., NeurIPS 2022), the folder of condensed data that its page names"
_DC_FILE = "torch.save of {'data': [[images, labels], ...], 'accs_all_exps': ...}, one pair a start"
_BY_BENCH = "DC-BENCH, best of its augmentations"
_DC_WORDS = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "tiny_imagenet": "tinyimagenet"}
_DC_KNOWN = (
    "the authors' published programs, which write such files, and DC-BENCH's, which reads them"
)
_DC_REMARK = "Only the last start in a file is read."
_TINY_FILE = "res_{method}_tinyimagenet_ConvNetD4_{ipc}ipc.pt"
_TINY = "The order of Tiny-ImageNet's classes in the file is taken for that of their names."
_TABLES = (
    {"paper": "rcig", "table": "2"},
    {"paper": "dwa", "table": "1", "distill_arch": "convnet-128", "eval_arch": "convnet-128"},
    {"paper": "dwa", "table": "2", "distill_arch": "resnet18", "eval_arch": "resnet18"},
)
"""Where accuracies of others' methods are looked for."""
_LARGE = "With a data root all of ImageNet-1K is read; without one classes are called as folders."
_BY_IMAGENET = "Standardised by ImageNet's constants. "
_FLAX = """\
from flax.training import checkpoints
import numpy
state = checkpoints.restore_checkpoint("{file}", None)["KEY"]
numpy.savez("{set}.npz", images=state["x_proto"], labels=state["y_proto"])"""


def _dc_bench(method: str, *claims: tuple[str, tuple[float, float, float]]) -> Iterator[Published]:
    """The sets of 1, 10 and 50 images per class that DC-BENCH has of a method."""
    for dataset, numbers in claims:
        tiny = dataset == "tiny_imagenet"
        for size, claim in zip((1, 10, 50), numbers, strict=True):
            file = _TINY_FILE.format(method=method, ipc=size) if tiny else ""
            yield Published(dataset, size, claim, file, remark=_TINY if tiny else "")


COLLECTIONS = (
    Collection(
        name="dc",
        method="DC",
        paper="Zhao, Mopuri, Bilen, ICLR 2021",
        where=_DC_BENCH,
        form=_DC_FILE,
        file="res_DC_{dataset}_ConvNet_{ipc}ipc.pt",
        words=_DC_WORDS,
        space="standardised",
        statistics="own",
        options="--network convnet:instance --protocol dc --networks 20",
        known=_DC_KNOWN,
        claimed=_BY_BENCH,
        remark=_DC_REMARK,
        sets=tuple(
            _dc_bench(
                "DC",
                ("cifar10", (29.3, 51.0, 56.8)),
                ("cifar100", (13.7, 28.4, 30.6)),
                ("tiny_imagenet", (5.3, 12.8, 12.7)),
            )
        ),
    ),
    Collection(
        name="dsa",
        method="DSA",
        paper="Zhao, Bilen, ICML 2021",
        where=_DC_BENCH,
        form=_DC_FILE,
        file="res_DSA_{dataset}_ConvNet_{ipc}ipc.pt",
        words=_DC_WORDS,
        space="standardised",
        statistics="own",
        options="--network convnet:instance --protocol dsa --networks 20",
        known=_DC_KNOWN,
        claimed=_BY_BENCH,
        remark=_DC_REMARK,
        sets=tuple(
            _dc_bench(
                "DSA",
                ("cifar10", (27.8, 53.0, 60.3)),
                ("cifar100", (13.7, 32.2, 43.1)),
                ("tiny_imagenet", (5.7, 16.4, 25.3)),
            )
        ),
    ),
    Collection(
        name="dm",
        method="DM",
        paper="Zhao, Bilen, WACV 2023",
        where=_DC_BENCH,
        form=_DC_FILE,
        file="res_DM_{dataset}_ConvNet_{ipc}ipc.pt",
        words=_DC_WORDS,
        space="standardised",
        statistics="own",
        options="--network convnet:instance --protocol dsa --networks 20",
        known=_DC_KNOWN,
        claimed=_BY_BENCH,
        remark=_DC_REMARK,
        sets=tuple(
            _dc_bench(
                "DM",
                ("cifar10", (26.5, 47.6, 62.0)),
                ("cifar100", (11.2, 29.2, 42.3)),
                ("tiny_imagenet", (3.8, 13.5, 22.8)),
            )
        ),
    ),
    Collection(
        name="datadam",
        method="DataDAM",
        paper="Sajedi et al., ICCV 2023",
        where="its authors, https://huggingface.co/datasets/uoft-dsp-lab/DataDAM",
        form="torch.save of {'data': [images, labels], ...}",
        file="syn_data_{dataset}_ipc_{ipc}.pt",
        words={"cifar10": "cifar10", "cifar100": "cifar100"},
        space="standardised",
        statistics="own",
        options="--network convnet:batch --protocol datadam-as-run --networks 10",
        known="the authors' published program and the page of the files",
        claimed="its authors",
        remark="The network is the program's, with batch norm; the paper's has instance norm. "
        "Subsets of ImageNet are left out: the order of their classes is another one.",
        sets=(
            Published("cifar10", 1, 32.0),
            Published("cifar10", 10, 54.2),
            Published("cifar10", 50),
            Published("cifar100", 1, 14.5),
            Published("cifar100", 10, 34.8),
            Published("cifar100", 50),
        ),
    ),
    Collection(
        name="mtt",
        method="MTT",
        paper="Cazenavette et al., CVPR 2022",
        where=_DC_BENCH,
        form="images_best.pt and labels_best.pt, a tensor each",
        file="TM/{dataset}/IPC{ipc}/images_best.pt",
        words=_DC_WORDS,
        space="standardised",
        statistics="own",
        options="--labels {folder}/labels_best.pt --network convnet:instance --protocol dsa",
        known="the authors' published program, and their settings in DC-BENCH for which sets were "
        "whitened",
        remark="Only the sets that were made without ZCA: the others' whitening (pixels, absolute "
        "0.1) is none that potstill has. Their students train at a learned rate, which these files "
        "do not hold: protocol dsa is not the authors' in that.",
        sets=(
            Published("cifar10", 50),
            Published("cifar100", 10, statistics="cifar10", remark="CIFAR-10's constants, as run."),
            Published("tiny_imagenet", 1, remark=_TINY),
            Published("tiny_imagenet", 10, remark=_TINY),
        ),
    ),
    Collection(
        name="kip",
        method="KIP",
        paper="Nguyen et al., NeurIPS 2021",
        where="its authors, the public bucket gs://kip-datasets",
        form=".npz with images (n, h, w, c) and labels (n, C), one-hot minus 1/C",
        file="kip/{dataset}/ConvNet_ssize{images}_nozca_nol_noaug_ckpt1000.npz",
        words={"mnist": "mnist", "fashion_mnist": "fashion_mnist", "cifar10": "cifar10"},
        space="standardised",
        statistics="fitted",
        options="--label-kind centred --network convnet:none,width=1024 --protocol rcig-paper",
        known="the authors' published notebooks; the names of the files are recalled, not seen",
        remark="Only the sets that were made without ZCA: the others' whitening (each image "
        "divided by its own norm) cannot be undone. The authors' network has one more convolution "
        "and their rate is searched: rcig-paper is not their protocol.",
        sets=(
            Published("mnist", 1),
            Published("mnist", 10),
            Published("mnist", 50),
            Published("fashion_mnist", 1),
            Published("fashion_mnist", 10),
            Published("fashion_mnist", 50),
            Published("cifar10", 1, quoted=False),
            Published("cifar10", 10, quoted=False),
            Published("cifar10", 50, quoted=False),
        ),
    ),
    Collection(
        name="frepo",
        method="FRePo",
        paper="Zhou, Nezhadarya, Ba, NeurIPS 2022",
        where="its authors, the checkpoints that https://github.com/yongchaoz/FRePo links to",
        form="a Flax checkpoint with params: x_proto (n, h, w, c) and y_proto (n, C)",
        file="ckpts_drive/{dataset}/ipc{ipc}_llTrue",
        words={"cifar100": "cifar100"},
        space="zca",
        statistics="fitted",
        options="--zca-regularisation 0.1 --label-kind centred --mirror-images "
        "--network convnet:batch,width=128,growth=2 --protocol rcig-paper-augmented",
        known="the read-me of the authors' program; the whitening as RCIG's, whose program was "
        "derived from it",
        before=_FLAX.replace("KEY", "params"),
        remark="The other sets in that folder go the same way; those of MNIST and Fashion-MNIST "
        "with --space standardised and without --zca-regularisation and --mirror-images.",
        sets=(Published("cifar100", 1),),
    ),
    Collection(
        name="rcig",
        method="RCIG",
        paper="Loo, Hasani, Lechner, Rus, ICML 2023",
        where="its authors, https://github.com/yolky/RCIG",
        form="a Flax checkpoint with ema_average: x_proto (n, h, w, c) and y_proto (n, C)",
        file="distilled_images_final/0/{dataset}_{ipc}",
        words={"cifar10": "cifar10", "cifar100": "cifar100", "tiny_imagenet": "tiny_imagenet"},
        space="zca",
        statistics="fitted",
        options="--zca-regularisation 0.1 --label-kind centred --mirror-images "
        "--network convnet:none,width=128,growth=2 --protocol rcig-as-run",
        known="the authors' published program and its read-me",
        before=_FLAX.replace("KEY", "ema_average"),
        sets=(
            Published("cifar10", 1, file="distilled_images_final/0/cifar10_1/checkpoint_15000"),
            Published("cifar10", 10, file="distilled_images_final/0/cifar10_10/checkpoint_10000"),
            Published("cifar100", 1),
            Published("tiny_imagenet", 1),
        ),
    ),
    Collection(
        name="sre2l",
        method="SRe2L",
        paper="Yin, Xing, Shen, NeurIPS 2023",
        where="its authors, https://huggingface.co/datasets/zeyuanyin/SRe2L",
        form="a .zip of class folders new000, new001, ... of JPEG",
        file="sre2l_{dataset}_rn18_4k_ipc{ipc}",
        words={"imagenet1k": "in1k", "tiny_imagenet": "tiny"},
        space="pixels",
        statistics="tiny_imagenet",
        options="--label-kind hard --network resnet18 --protocol hard-label --networks 1",
        known="the authors' published program; classes are those of the folders' numbers",
        remark=_BY_IMAGENET + "Their students learn a teacher's opinion of augmented views (FKD), "
        "whose files are not read here: hard-label is not their protocol.",
        sets=(
            Published("imagenet1k", 50, remark=_LARGE),
            Published(
                "imagenet1k",
                50,
                file="sre2l_in1k_rn18_2k_ipc50",
                variant="2k",
                remark=_LARGE,
                quoted=False,
            ),
            Published("imagenet1k", 200, remark=_LARGE),
            Published("tiny_imagenet", 50, file="sre2l_tiny_rn18_1k_ipc50"),
            Published("tiny_imagenet", 100),
        ),
    ),
    Collection(
        name="rded",
        method="RDED",
        paper="Sun, Shi, Yu, Lin, CVPR 2024",
        where="nobody that is known: what the authors' program writes "
        "(https://github.com/LINs-lab/RDED)",
        form="class folders 00000, 00001, ... of JPEG",
        file="syn_data",
        words={"cifar10": "", "cifar100": "", "tiny_imagenet": "", "imagenet1k": ""},
        space="pixels",
        statistics="tiny_imagenet",
        options="--label-kind hard --protocol hard-label --networks 1",
        known="the authors' published program",
        claimed="its authors, best test of the last fifth, a teacher's labels",
        remark=_BY_IMAGENET + "Its students learn a teacher's labels of shuffled views: hard-label "
        "is not its protocol. The networks are those that the accuracies are of.",
        sets=(
            Published("cifar10", 10, 50.2, options="--network convnet:batch"),
            Published("cifar100", 10, 48.1, options="--network convnet:batch"),
            Published("tiny_imagenet", 10, 41.9, options="--network resnet18"),
            Published("imagenet1k", 10, 42.0, options="--network resnet18", remark=_LARGE),
        ),
    ),
)
"""Every collection, those of a kin beside each other."""


@dataclass(frozen=True)
class Entry:
    """A published set with what is true of its collection: all that the gallery shows of it."""

    collection: Collection
    published: Published

    @property
    def name(self) -> str:
        """Such as ``dm/cifar10-ipc10``."""
        of, variant = self.published, self.published.variant
        size = f"{of.dataset.replace('_', '-')}-ipc{of.images_per_class}"
        return f"{self.collection.name}/{size}" + (f"-{variant}" if variant else "")

    @property
    def file(self) -> str:
        """The file or folder as its publisher calls it."""
        size, of = self.published.images_per_class, self.published
        word = self.collection.words[of.dataset]
        images = size * DATASETS[of.dataset].classes
        return of.file or self.collection.file.format(dataset=word, ipc=size, images=images)

    @property
    def before(self) -> str:
        """Python to run first, empty if the file can be read as it is."""
        code = self.collection.before.replace("{file}", self.file)
        return code.replace("{set}", self._plain_name)

    @property
    def words(self) -> tuple[str, ...]:
        """The command after ``potstill``, word by word."""
        path = f"{self._plain_name}.npz" if self.collection.before else self.file
        folder = path.rpartition("/")[0] or "."
        data = f"--dataset {self.published.dataset} --data-root {DATA_ROOT}"
        options = self.collection.options.format(folder=folder)
        given = f"--space {self.collection.space} {self._standardised} {data}"
        more = f"{options} {self.published.options}"
        return tuple(f"import {path} --out {OUT}/{self.name} {given} {more}".split())

    @property
    def command(self) -> str:
        """The command as a shell takes it."""
        return shlex.join(("potstill", *self.words))

    @property
    def row(self) -> Row | None:
        """What a table of RCIG's or DWA's prints of the method at this size, if one does."""
        of = self.published
        wanted = {
            "dataset": of.dataset,
            "images_per_class": of.images_per_class,
            "method": self.collection.method,
        }
        rows = (find(PaperRow.model_validate({**table, **wanted})) for table in _TABLES)
        return next((row for row in rows if row is not None and of.quoted), None)

    @property
    def claims(self) -> str:
        """The accuracies that others state, and who does, in words."""
        claim, row = self.published.claim, self.row
        stated = [] if claim is None else [f"{claim:.1f} % ({self.collection.claimed})"]
        if row is not None:
            spread = "" if row.std is None else f" ± {row.std:.1f}"
            stated.append(f"{row.value:.1f}{spread} % ({row.title})")
        return "; ".join(stated) or "none known"

    def document(self) -> dict[str, Any]:
        """The entry as a JSON object."""
        row, of, collection = self.row, self.published, self.collection
        return {
            "name": self.name,
            "paper": collection.paper,
            "where": collection.where,
            "file": self.file,
            "form": collection.form,
            "dataset": of.dataset,
            "images_per_class": of.images_per_class,
            "space": collection.space,
            "known": collection.known,
            "claim": of.claim,
            "claimed": collection.claimed if of.claim is not None else None,
            "quoted": None if row is None else row.document(),
            "before": self.before or None,
            "command": self.command,
            "remarks": [text for text in (collection.remark, of.remark) if text],
        }

    @property
    def _plain_name(self) -> str:
        return self.name.replace("/", "-")

    @property
    def _standardised(self) -> str:
        of = self.published
        stated = of.statistics or self.collection.statistics
        if stated == "fitted":
            return f"--fit-on {of.dataset}"
        info = DATASETS[of.dataset if stated == "own" else stated]
        if info.mean is None or info.std is None:
            raise ValueError(f"{self.name}: no constants are known of {info.title}")
        mean, std = (",".join(f"{number:g}" for number in each) for each in (info.mean, info.std))
        return f"--mean {mean} --std {std}"


def entries() -> tuple[Entry, ...]:
    """Every published set, in the order of the registry."""
    return tuple(Entry(each, published) for each in COLLECTIONS for published in each.sets)
