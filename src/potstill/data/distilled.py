"""A distilled set: ready to train on, one file on disk, impossible to mistake.

The images are kept in the space a network sees, or as 8-bit pixels; the labels are learned; the
preprocessing, the protocol the set was made for and its whole history come with it.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import ValidationError
from torch import Tensor
from torch.utils.data import Dataset

from potstill import pictures, storage
from potstill.config import DataRecipe, NetworkRecipe
from potstill.data.header import checked, checked_names, implied_mirror_images
from potstill.data.preprocess import Preprocess, RefittedZCA, refit
from potstill.errors import ArtefactError, DataError
from potstill.files import locked, remove_leftovers
from potstill.quoting import fault, quoted
from potstill.results import Evaluation, of_set, standing
from potstill.surroundings import Surroundings

if TYPE_CHECKING:
    from PIL.Image import Image

    from potstill.data.source import SourceDataset
    from potstill.data.whitening_cache import WhiteningCache

# What the file's document has besides, written from the tensors and the preprocessing.
_DERIVED = frozenset({"class_names", "digest", "images", "labels", "preprocess", "soft_labels"})
_SPACES = {torch.float32: "network", torch.uint8: "pixels"}
_PRECISIONS = {torch.float16: "float16", torch.float32: "float32"}
_PREFIX = "preprocess."


class DistilledDataset(Dataset[tuple[Tensor, Tensor]]):
    """A torch Dataset of (image, label) in network space, with all that belongs to it.

    Attributes:
        labels: (n, C) float32, learned and centred: a class is its largest entry.
        class_names: C names; column k of ``labels`` is class k.
        preprocess: from pixels to network space and back.
        header: method, description, data, mirror_images, evaluation, source, versions, seed,
            iterations, results and format_version, as JSON has them; recipe and surroundings, if a
            recipe made it; relabelling where there are soft labels. Files from before a set
            described itself have method, recipe, evaluation and what follows.
        soft_labels: (e, n, C) float16 or float32, a teacher's outputs before the softmax on a
            view of each image in each of e epochs, or None. ``header["relabelling"]`` says which
            views and which teacher.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        class_names: Sequence[str],
        preprocess: Preprocess,
        header: Mapping[str, Any],
        soft_labels: Tensor | None = None,
    ) -> None:
        """Take copies of everything, on the CPU.

        Args:
            images: (n, c, h, w); floating point is network space, uint8 is pixels: these are
                kept as they are in the file and preprocessed for training.
            labels: (n, C) floating point.
            class_names: C names.
            preprocess: fitted on the training images of the source.
            header: the fields above (:mod:`potstill.data.header`); ``results`` may be absent,
                ``format_version`` too.
            soft_labels: (e, n, C) float16, or another floating point kept as float32; they
                need ``header["relabelling"]``.

        Raises:
            ArtefactError: shapes that disagree, numbers that are not finite, class names that
                are none, a header that lacks a field or is not JSON, or soft labels and
                relabelling without each other.
            DataError: images of another shape than the preprocessing is for.
        """
        self._stored = _copy(images, images.dtype if images.dtype == torch.uint8 else torch.float32)
        self.labels = _copy(labels, torch.float32)
        self.class_names = checked_names(class_names)
        self.soft_labels = None if soft_labels is None else _copy_soft(soft_labels)
        self.header = _header(header, self.soft_labels is not None, preprocess.describe())
        self._check_tensors()
        preprocess.check(self._stored)
        self.preprocess = preprocess.for_images(self._stored.shape[1:])

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    @cached_property
    def images(self) -> Tensor:
        """In network space, (n, c, h, w) float32: of 8-bit pixels made when first asked for."""
        return self._stored if self.space == "network" else self.preprocess.apply(self._stored)

    @property
    def shape(self) -> torch.Size:
        """(n, c, h, w)."""
        return self._stored.shape

    @property
    def compact(self) -> Tensor:
        """``images``, or the 8-bit pixels if :meth:`in_network_space` makes these of any batch.

        That is so to the bit where images are standardised, each number by itself.
        """
        each = self.preprocess.describe()["kind"] == "standardise"
        return self._stored if each and self.space == "pixels" else self.images

    def in_network_space(self, images: Tensor) -> Tensor:
        """Some of :attr:`compact`, on any device, as networks see them: (b, c, h, w) float32."""
        return self.preprocess.apply(images) if images.dtype == torch.uint8 else images

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.shape[1:]))
        return (
            f"DistilledDataset({self.header['method']} of {self.header['source']['name']}: "
            f"{len(self)} images of {shape}, {len(self.class_names)} classes)"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: the picture, and a line on the set."""
        picture = self._repr_png_()
        if picture is None:
            return f"<p>{html.escape(repr(self))}</p>"
        source = base64.b64encode(picture).decode("ascii")
        names = pictures.legend(self.class_names)
        listed = "; ".join(f"{label}: {name}" for label, name in names.items())
        told = html.escape(f"{self!r}{f' ({listed})' if names else ''}")
        return (
            f'<figure style="margin: 0"><img src="data:image/png;base64,{source}" alt="{told}" '
            f'style="max-width: 100%"><figcaption>{told}</figcaption></figure>'
        )

    def _repr_png_(self) -> bytes | None:
        if not self.has_pictures:
            return None
        buffer = io.BytesIO()
        self.picture().save(buffer, format="PNG")
        return buffer.getvalue()

    @property
    def space(self) -> str:
        """What the file keeps: ``network`` (float32) or ``pixels`` (8 bits)."""
        return _SPACES[self._stored.dtype]

    @property
    def images_per_class(self) -> int:
        """Images divided by classes, rounded down: learned labels need not be balanced."""
        return len(self) // len(self.class_names)

    @property
    def data_recipe(self) -> DataRecipe:
        """The real data that the set stands for.

        Raises:
            ArtefactError: this version does not know how to read it.
        """
        document = self.header.get("data", self.header.get("recipe", {}).get("data", {}))
        try:
            return DataRecipe.model_validate(document)
        except ValidationError as error:
            raise ArtefactError(
                f"the set stands for data this version does not know ({fault(error)}); upgrade "
                "potstill"
            ) from None

    @property
    def digest(self) -> str:
        """SHA-256 in hexadecimal of all but the results: one set, however often it is scored."""
        return storage.content_digest(self._document(), self._tensors())

    @property
    def mirror_images(self) -> bool:
        """Whether the set is to be trained on together with its mirror images.

        It is a header field; where there is none, what such a file implies counts.
        """
        stated = self.header.get("mirror_images")
        return implied_mirror_images(self.header["recipe"]) if stated is None else bool(stated)

    @property
    def results(self) -> tuple[Evaluation, ...]:
        """The evaluations of the set as it is now, oldest first."""
        return of_set(self._evaluations(), self.digest)

    @property
    def earlier_results(self) -> tuple[Evaluation, ...]:
        """Those of the same images before their soft labels were stored, oldest first."""
        found = self._evaluations()
        own = of_set(found, self.digest)
        return tuple(result for result in found if result not in own)

    def standing(self, results: Iterable[Evaluation]) -> Evaluation | None:
        """Of ``results``, the one that stands for the set: most like what it was made for."""
        made_for = self.header["evaluation"]
        network = made_for.get("network")
        return standing(
            results,
            network=None if network is None else NetworkRecipe.model_validate(network),
            protocol=made_for["protocol"],
            epochs=made_for.get("epochs"),
        )

    def _evaluations(self) -> tuple[Evaluation, ...]:
        return tuple(Evaluation.model_validate(result) for result in self.header["results"])

    def hard_labels(self) -> Tensor:
        """The class of the largest label: (n,) int64."""
        return self.labels.argmax(dim=1)

    @property
    def has_pictures(self) -> bool:
        """Whether :meth:`pixels` needs nothing besides the set; else see :meth:`refitted`."""
        return self.space == "pixels" or not self._lacks_matrix

    @property
    def _lacks_matrix(self) -> bool:
        return isinstance(self.preprocess, RefittedZCA) and self.preprocess.fitted is None

    def pixels(self) -> Tensor:
        """Pictures in natural colours, preprocessing undone: (n, c, h, w) float32 in [0, 1]."""
        if self.space == "pixels":
            return self._stored.float() / 255
        return self.preprocess.invert(self.images).clamp(0, 1)

    def picture(self) -> Image:
        """All images in natural colours, a row a class; see :func:`potstill.pictures.picture`."""
        return pictures.picture(self)

    def with_result(self, result: Mapping[str, Any]) -> DistilledDataset:
        """The same set with one more measured result; its digest is the same."""
        header = {**self.header, "results": [*self.header["results"], dict(result)]}
        return self._like(header, self.soft_labels)

    def with_soft_labels(
        self, soft_labels: Tensor, relabelling: Mapping[str, Any]
    ) -> DistilledDataset:
        """The same images with these soft labels, which makes another set.

        Results measured so far become :attr:`earlier_results`.

        Args:
            soft_labels: (e, n, C), a teacher's outputs before the softmax in e epochs.
            relabelling: which teacher and which views they are of.

        Raises:
            ArtefactError: they have another shape, or numbers that are not finite.
        """
        digest = self.digest
        stamped = [
            {**result, "artefact_digest": result.get("artefact_digest") or digest}
            for result in self.header["results"]
        ]
        header = {**self.header, "relabelling": dict(relabelling), "results": stamped}
        return self._like(header, soft_labels)

    def first(self, per_class: int) -> DistilledDataset:
        """The set of the first ``per_class`` images of every class, in the order they have here.

        Whether these are worth what a set made of so many images is depends on the method: each of
        DWA's images knows nothing of those after it, so that its first ten of fifty are, to the
        byte, the set of ten; RCIG's images are made for each other. Field ``part_of`` of the header
        says which set they are from. Results stay behind, and so do stored soft labels: they are
        of other batches.

        Raises:
            ArtefactError: a class has fewer images, or none are asked for.
        """
        classes = self.hard_labels()
        fewest = int(classes.bincount(minlength=len(self.class_names)).min())
        if not 1 <= per_class <= fewest:
            raise ArtefactError(
                f"the set has {fewest} images of its smallest class; ask for the first 1 to "
                f"{fewest} of each, and not for {per_class}"
            )
        members = [(classes == label).nonzero()[:per_class, 0] for label in classes.unique()]
        rows = torch.cat(members).sort().values
        whole = {"digest": self.digest, "images_per_class": self.images_per_class}
        header = {key: value for key, value in self.header.items() if key != "relabelling"}
        header |= {"part_of": whole, "results": []}
        return DistilledDataset(
            self._stored[rows], self.labels[rows], self.class_names, self.preprocess, header
        )

    def refitted(
        self,
        source: SourceDataset,
        *,
        device: torch.device | str | None = None,
        cache: WhiteningCache | None = None,
    ) -> DistilledDataset:
        """The set with its ZCA fitted again, where its file holds none (``data.zca_stored``).

        It is the same set, of the same digest, and is saved without the matrix again. Any other
        set, and one whose ZCA is at hand, is returned as it is.

        Args:
            source: the real data that the set was distilled from.
            device: where ZCA is fitted; on the processor if None.
            cache: where ZCA, which takes minutes at 64 px, is looked for and stored.

        Raises:
            ArtefactError: the source is other data, or another ZCA comes of it.
        """
        preprocess = self.preprocess
        if not isinstance(preprocess, RefittedZCA) or not self._lacks_matrix:
            return self
        stated = self.header["source"]
        if stated["fingerprint"] != source.fingerprint:
            raise ArtefactError(
                f"ZCA is not fitted again on {source.name}: its fingerprint is "
                f"{source.fingerprint[:12]}, and the set was distilled from {stated['name']} with "
                f"{stated['fingerprint'][:12]}; pass that data"
            )
        whole = refit(preprocess, source.train.images, device=device, cache=cache)
        return DistilledDataset(
            self._stored, self.labels, self.class_names, whole, self.header, self.soft_labels
        )

    def made_for(self, evaluation: Mapping[str, Any]) -> DistilledDataset:
        """The same images and labels, made to be scored in another way; its digest is another."""
        return self._like({**self.header, "evaluation": dict(evaluation)}, self.soft_labels)

    def made_in(self, surroundings: Surroundings) -> DistilledDataset:
        """The same set, which says in what surroundings it was made."""
        header = {**self.header, "surroundings": surroundings.document()}
        return self._like(header, self.soft_labels)

    def save(self, path: Path | str) -> None:
        """Write the set as one file: the whole file or none, the same set to the same bytes.

        Raises:
            RunError: the file cannot be written.
            ArtefactError: tensors were changed in place to numbers that are not finite.
        """
        self._check_tensors()
        storage.save(Path(path), self._document(), self._tensors(), storage.DISTILLED_SET)

    @classmethod
    def load(cls, path: Path | str) -> DistilledDataset:
        """Read a file that :meth:`save` wrote.

        Raises:
            ArtefactError: the file is missing, truncated, altered, not ours, of a newer format,
                or holds tensors that do not fit its header.
        """
        path = Path(path)
        document, tensors = storage.decode(path, storage.DISTILLED_SET)
        try:
            return cls.from_parts(document, tensors)
        except ArtefactError as error:
            raise ArtefactError(f"{path}: {error}") from None
        except (KeyError, TypeError, AttributeError, DataError) as error:
            reason = " ".join(str(error).split())
            raise ArtefactError(
                f"{path}: header and tensors do not fit ({reason}); get the original file again"
            ) from None

    def export(
        self,
        out: Path | str,
        form: Literal["png", "npz", "pt", "datasets"],
        *,
        licence: str = "unknown",
    ) -> None:
        """Write the set for other code (:mod:`potstill.data.exchange`, :mod:`potstill.sharing`).

        Args:
            out: the file, or of png and datasets the folder, which is not there or empty.
            form: ``png``: class folders; ``npz`` and ``pt``: arrays or tensors; ``datasets``: a
                folder that ``datasets.load_dataset`` reads (extra ``hub``). npz and pt hold every
                set exactly, pictures one that keeps pixels.
            licence: of the images, for the card of ``datasets``.

        Raises:
            RunError: it cannot be written, the folder holds something, or the extra is missing.
        """
        if form == "datasets":
            from potstill.sharing import write_folder

            write_folder(self, Path(out), licence=licence)
        else:
            from potstill.data.exchange import export

            export(self, Path(out), form)

    def push_to_hub(
        self,
        repository: str,
        *,
        licence: str = "unknown",
        private: bool = False,
        token: str | None = None,
    ) -> str:
        """Put the set on the Hugging Face hub; :func:`potstill.sharing.push` says all (extra
        ``hub``).

        Returns:
            The address of the dataset repository ``USER/NAME``.

        Raises:
            RunError: the hub refuses or is not reached, or the extra is missing.
        """
        from potstill.sharing import push

        return push(self, repository, licence=licence, private=private, token=token)

    @classmethod
    def from_hub(
        cls, repository: str, *, revision: str | None = None, token: str | None = None
    ) -> DistilledDataset:
        """The set that :meth:`push_to_hub` put into the repository ``USER/NAME`` (extra ``hub``).

        Raises:
            RunError: there is none, the hub is not reached, or the extra is missing.
            ArtefactError: the file is none that potstill wrote.
        """
        from potstill.sharing import pull

        return pull(repository, revision=revision, token=token)

    def parts(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors of the set's file, and its document without the digest."""
        return self._tensors(), self._document()

    @classmethod
    def from_parts(
        cls, document: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> DistilledDataset:
        """The set of which :meth:`parts` returned these.

        Raises:
            ArtefactError: they do not fit each other, or are of no set.
            KeyError, TypeError, AttributeError, DataError: a part is missing or malformed.
        """
        _check_shapes(document, tensors)
        parts = {
            name.removeprefix(_PREFIX): tensor
            for name, tensor in tensors.items()
            if name.startswith(_PREFIX)
        }
        preprocess = Preprocess.from_parts(document["preprocess"], parts)
        header = {key: value for key, value in document.items() if key not in _DERIVED}
        names, soft_labels = document["class_names"], tensors.get("soft_labels")
        dataset = cls(tensors["images"], tensors["labels"], names, preprocess, header, soft_labels)
        if dataset.header["format_version"] != document["format_version"]:
            raise ArtefactError(
                f"format {document['format_version']} does not go with what it holds; "
                "get the original file again"
            )
        return dataset

    @classmethod
    def add_result(cls, path: Path | str, result: Mapping[str, Any]) -> DistilledDataset:
        """Append a measured result to the set in a file, which may have others by now.

        Raises:
            ArtefactError: as :meth:`load`.
            RunError: the file cannot be written.
        """
        with locked(Path(path)):
            remove_leftovers(Path(path).parent)
            scored = cls.load(path).with_result(result)
            scored.save(path)
        return scored

    def _tensors(self) -> dict[str, Tensor]:
        parts = {_PREFIX + name: tensor for name, tensor in self.preprocess.tensors().items()}
        soft = {} if self.soft_labels is None else {"soft_labels": self.soft_labels}
        return {"images": self._stored, "labels": self.labels, **soft, **parts}

    def _document(self) -> dict[str, Any]:
        soft = {} if self.soft_labels is None else {"soft_labels": _soft_facts(self.soft_labels)}
        return {
            **self.header,
            **soft,
            "class_names": list(self.class_names),
            "images": {"shape": list(self._stored.shape), "space": self.space},
            "labels": {"shape": list(self.labels.shape)},
            "preprocess": self.preprocess.describe(),
        }

    def _like(self, header: Mapping[str, Any], soft_labels: Tensor | None) -> DistilledDataset:
        return DistilledDataset(
            self._stored, self.labels, self.class_names, self.preprocess, header, soft_labels
        )

    def _check_tensors(self) -> None:
        _check_images(self._stored, self.labels, self.class_names)
        if self.soft_labels is not None:
            _check_soft(self.soft_labels, tuple(self.labels.shape))


def _copy_soft(soft_labels: Tensor) -> Tensor:
    half = soft_labels.dtype == torch.float16
    return _copy(soft_labels, torch.float16 if half else torch.float32)


def _soft_facts(soft_labels: Tensor) -> dict[str, Any]:
    return {"shape": list(soft_labels.shape), "precision": _PRECISIONS[soft_labels.dtype]}


def _copy(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.detach().to("cpu", dtype, copy=True, memory_format=torch.contiguous_format)


def _header(header: Mapping[str, Any], soft: bool, preprocess: Mapping[str, Any]) -> dict[str, Any]:
    """A copy as JSON returns it, checked field by field.

    ``soft``: there are soft labels. ``preprocess``: what it says of itself.
    """
    described = 3 if "description" in header else 2 if soft else 1
    version = 5 if "stored" in preprocess else 4 if "tiling" in preprocess else described
    given = {"results": [], **header, "format_version": version}
    if isinstance(given.get("relabelling"), dict) != soft:
        raise ArtefactError(
            "soft labels and header field 'relabelling' belong together; give both or none"
        )
    reserved = sorted(_DERIVED & given.keys())
    if reserved:
        raise ArtefactError(
            f"header field {reserved[0]!r} is written from the tensors; leave it out"
        )
    return checked(given)


def _check_images(images: Tensor, labels: Tensor, class_names: tuple[str, ...]) -> None:
    if images.ndim != 4 or not images.numel():
        raise ArtefactError(
            f"distilled images have shape {tuple(images.shape)}; pass (n, channels, height, width) "
            "and no empty ones"
        )
    if labels.shape != (len(images), len(class_names)):
        raise ArtefactError(
            f"labels have shape {tuple(labels.shape)}; {len(images)} images of "
            f"{len(class_names)} classes need {(len(images), len(class_names))}"
        )
    if not (images.isfinite().all() and labels.isfinite().all()):
        raise ArtefactError(
            "distilled images or labels are not finite numbers; distil again, with a lower "
            "learning rate"
        )


def _check_soft(soft_labels: Tensor, shape: tuple[int, ...]) -> None:
    found = tuple(soft_labels.shape)
    if len(found) != 3 or not found[0] or found[1:] != shape:
        raise ArtefactError(
            f"soft labels have shape {found}; {shape[0]} images of {shape[1]} classes need "
            f"(epochs, {shape[0]}, {shape[1]})"
        )
    if not soft_labels.isfinite().all():
        raise ArtefactError(
            "soft labels are not finite numbers; label again, with precision float32 if the "
            "teacher's outputs are finite"
        )


def _check_shapes(document: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """What the header says of images and labels is what the file holds."""
    space = _SPACES.get(tensors["images"].dtype)
    soft = tensors.get("soft_labels")
    for name, found in (
        ("images", {"shape": list(tensors["images"].shape), "space": space}),
        ("labels", {"shape": list(tensors["labels"].shape)}),
        ("soft_labels", None if soft is None else _soft_facts(soft)),
    ):
        if document.get(name) != found:
            raise ArtefactError(
                f"the header says {name} {quoted(document.get(name))}, the file holds {found}; "
                "get the original file again"
            )
    extra = sorted(
        name
        for name in tensors
        if name not in ("images", "labels", "soft_labels") and not name.startswith(_PREFIX)
    )
    if extra:
        raise ArtefactError(
            f"it holds a tensor {quoted(extra[0])} that no set has; get the original file again"
        )
    if tensors["labels"].dtype != torch.float32:
        raise ArtefactError("the labels are not float32; get the original file again")
