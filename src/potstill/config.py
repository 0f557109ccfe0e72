"""The parts of a recipe that every method shares: data, networks, teachers, evaluation.

Unknown keys and wrong types are refused. :mod:`potstill.methods.recipe` puts them together with
a method's own settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

Normalisation = Literal["none", "batch", "instance", "group", "layer"]
Precision = Literal["auto", "float32", "bfloat16"]


# More than any run takes, so that a slip is refused before it takes memory: at most so many
# steps, epochs, images of a batch, and pixels of a side.
STEPS, EPOCHS, BATCH, SIDE = 1_000_000_000, 1_000_000, 100_000, 4096
PRECISION = "auto: bfloat16 where the device multiplies it natively, else float32"
_WIDEST = 16_384  # channels of a convnet's block: 5 GB of weights

PROTOCOLS = (
    "rcig-paper",
    "rcig-paper-augmented",
    "rcig-as-run",
    "rcig-transfer-augmented",
    "dwa-paper",
    "dwa-as-run",
    "hard-label",
    "dc",
    "dc-mnist",
    "dsa",
    "cafe",
    "datadam-as-run",
    "hl",
    "sl",
    "sl-kd",
)
"""The names in :data:`potstill.evaluation.PROTOCOLS`, known without importing PyTorch."""

Name = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00]*$")]
"""Text that may become a file's name."""


class Strict(BaseModel):
    """A frozen document that refuses keys it does not know, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PaperRow(Strict):
    """A row of a paper's table, or several: what a recipe says that it stands for."""

    paper: Literal["rcig", "dwa"] = Field(description="the paper")
    table: Name = Field(description="the table's number")
    dataset: Name = Field(description="data set of the row")
    images_per_class: int = Field(ge=1, le=BATCH, description="images per class of the row")
    method: Name = Field(description="the method, as the table spells it")
    distill_arch: Name | None = Field(None, description="all, where the table compares several")
    eval_arch: Name | None = Field(None, description="all, where the table compares several")

    def names(self, row: PaperRow) -> bool:
        """Whether ``row`` is this one; a network that is not named may be any."""
        given = self.model_dump(exclude_none=True)
        return all(getattr(row, key) == value for key, value in given.items())


EVERY_KEY = "every key"
"""Context for ``model_dump`` of what people read: with keys that documents leave out at their
default, as they are younger than the documents' digests."""


class DataRecipe(Strict):
    """Which images, at which size, and how pixels become network inputs."""

    dataset: Name = Field("digits", description="the data set; image_folder for images of your own")
    folder: Name | None = Field(
        None, description="image_folder only: folder with train/ and test/ class folders"
    )
    train_images: int | None = Field(
        None,
        ge=1,
        le=STEPS,
        description="use so many training images, balanced by class; all if absent",
    )
    train_chunk: int = Field(
        0,
        ge=0,
        le=STEPS,
        description="with train_images: which of the parts of so many, which share no image",
    )
    resolution: int | None = Field(
        None, ge=4, le=SIDE, description="resize to a square of this side"
    )
    channels: Literal[1, 3] | None = Field(None, description="convert to this many channels")
    preprocess: Literal["standardise", "zca"] = Field(
        "standardise",
        description="by mean and standard deviation of each channel; zca also whitens",
    )
    zca_regularisation: float = Field(0.1, gt=0, le=1e6, description="times trace(C)/d, added to C")
    zca_block: int | None = Field(
        None,
        ge=4,
        le=SIDE,
        description="whiten blocks of this side, each the image at a lower resolution",
    )
    zca_stored: bool = Field(
        True,
        description="the set's file holds ZCA's matrix; without, it is far smaller, and whoever "
        "tests networks on real images or shows the set's needs the training images to fit ZCA "
        "again",
    )
    mean: tuple[float, ...] | None = Field(
        None, description="mean of each channel, pixels in [0, 1]; measured if absent"
    )
    std: tuple[float, ...] | None = Field(
        None, description="standard deviation of each channel; measured if absent"
    )
    train_squashed: bool = Field(
        False,
        description="of folders: training images are squeezed into the square whole; otherwise it "
        "is cut out of their middle",
    )
    test_resize: int | None = Field(
        None,
        ge=4,
        le=SIDE,
        description="of folders: test images are resized to this side first, and the middle is cut "
        "out of that (ImageNet's 256 for 224)",
    )

    @property
    def pixels(self) -> DataRecipe:
        """Which images, whatever becomes of their pixels: equal for sets of one source."""
        usual = {"preprocess", "zca_regularisation", "zca_block", "zca_stored", "mean", "std"}
        return DataRecipe.model_validate(self.model_dump(exclude=usual))

    @model_serializer(mode="wrap")
    def _without_the_usual(
        self, document: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> dict[str, Any]:
        """Documents from before there was ``zca_stored`` stay what they are; see ``EVERY_KEY``."""
        written: dict[str, Any] = document(self)
        if self.zca_stored and info.context != EVERY_KEY:
            written.pop("zca_stored", None)
        return written

    @model_validator(mode="after")
    def _stored_or_not(self) -> DataRecipe:
        if not self.zca_stored and self.preprocess != "zca":
            raise ValueError(
                "zca_stored is of ZCA alone; set data.preprocess to zca, or remove data.zca_stored"
            )
        return self

    @model_validator(mode="after")
    def _chunk_of_something(self) -> DataRecipe:
        if self.train_chunk and self.train_images is None:
            raise ValueError("train_chunk is a part of train_images; set data.train_images too")
        return self

    @model_validator(mode="after")
    def _statistics(self) -> DataRecipe:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std belong together; give both or none")
        if self.mean is not None and self.std is not None:
            if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
                raise ValueError("mean and std must list one number for each of 1 or 3 channels")
            if not all(1e-6 <= std <= 1e6 for std in self.std):
                raise ValueError("std must lie between 1e-6 and 1e6")
            if max(map(abs, self.mean)) > 1e6:
                raise ValueError("mean must lie between -1e6 and 1e6")
        return self


class NetworkRecipe(Strict):
    """The network a set is distilled for (RCIG, Appendix C), or a teacher's (DWA)."""

    name: Name = Field(
        "convnet",
        description="one of potstill's, timm:NAME, torchvision:NAME, or package.name:factory for "
        "one of your own",
    )
    depth: int = Field(3, ge=1, le=16, description="convnet only")
    width: int = Field(
        128, ge=1, le=_WIDEST, description="convnet only: channels of the first block"
    )
    growth: Literal[1, 2] = Field(
        2, description="convnet only: each block's channels over the last one's; 1 in DWA"
    )
    normalisation: Normalisation = Field("none", description="what normalises between layers")

    @model_validator(mode="after")
    def _within_memory(self) -> NetworkRecipe:
        if self.width * self.growth ** (self.depth - 1) > _WIDEST:
            raise ValueError(
                f"depth {self.depth}, width {self.width} and growth {self.growth} make blocks of "
                f"more than {_WIDEST} channels; lower one of them"
            )
        return self

    @property
    def library(self) -> Literal["timm", "torchvision"] | None:
        """The library whose network it is, made without weights; None if it is none of these."""
        for library in ("timm", "torchvision"):
            if self.name.startswith(f"{library}:"):
                return library
        return None

    @property
    def foreign(self) -> bool:
        """Whether a user's code makes it, named ``package.name:factory``."""
        return ":" in self.name and self.library is None


class TeacherRecipe(Strict):
    """A network trained on the real data (squeeze), to invert or to label with.

    At most one of ``pretrained`` and ``module`` names another network than ``network``.
    """

    network: NetworkRecipe = Field(
        NetworkRecipe(name="resnet18", normalisation="batch"), description="the teacher's network"
    )
    pretrained: Name | None = Field(
        None, description="torchvision:NAME or timm:NAME with its own weights; it is not trained"
    )
    module: str | None = Field(
        None,
        description="package.name:factory, called with channels, resolution and classes",
        max_length=1000,
        pattern=r"^[\w.]+:\w+$",
    )
    checkpoint: Name | None = Field(
        None, description="a .safetensors or .pt state dict; the network is not trained"
    )
    epochs: int = Field(200, ge=1, le=EPOCHS, description="epochs of its training")
    batch_size: int = Field(128, ge=2, le=BATCH, description="images of a training step")
    optimiser: Literal["sgd", "adamw"] = Field("sgd", description="what trains it")
    learning_rate: float = Field(0.1, gt=0, description="falls to 0 along a cosine")
    warmup_epochs: int = Field(
        0, ge=0, le=EPOCHS, description="of the epochs, those in which the rate rises from 0"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd only")
    weight_decay: float = Field(5e-4, ge=0, description="of the optimiser")
    decay_vectors: bool = Field(
        True, description="whether biases and the weights of norms decay as well"
    )
    crop: Literal["padded", "resized"] = Field(
        "padded", description="resized: RandomResizedCrop, which needs no padding"
    )
    crop_padding: int = Field(
        4, ge=0, le=SIDE, description="pixels around the image before a random crop"
    )
    flip: bool = Field(True, description="mirror half of the training images, at random")
    mix: Literal["none", "mixup", "cutmix", "either"] = Field(
        "none",
        description="mixup in shares from Beta(0.8, 0.8), cutmix from Beta(1, 1), or for each "
        "batch one of the two",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of a label that is spread over all classes"
    )
    std: tuple[float, ...] | None = Field(
        None,
        description="in place of data.std while the teacher is trained, and then no more, as the "
        "authors ran CIFAR-10; the same if absent",
    )
    precision: Precision = Field("auto", description=PRECISION)

    @model_validator(mode="after")
    def _one_origin(self) -> TeacherRecipe:
        if self.pretrained is not None and (self.module or self.checkpoint):
            raise ValueError("pretrained excludes module and checkpoint; keep one of them")
        if self.pretrained is not None and not self.pretrained.startswith(
            ("torchvision:", "timm:")
        ):
            raise ValueError("pretrained must be torchvision:NAME or timm:NAME")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"a warm-up of {self.warmup_epochs} epochs leaves none of {self.epochs}; lower "
                "warmup_epochs"
            )
        if self.std is not None and not (
            len(self.std) in (1, 3) and all(1e-6 <= std <= 1e6 for std in self.std)
        ):
            raise ValueError(
                "std must list one number for each of 1 or 3 channels, between 1e-6 and 1e6"
            )
        if self.network.foreign:
            raise ValueError("a teacher's network of your own goes into module, not network.name")
        return self


class EvaluationRecipe(Strict):
    """The protocol a set is made for."""

    protocol: Name = Field(
        "rcig-paper", description="a named way of training; `potstill protocols` says what each is"
    )
    networks: int = Field(
        5, ge=1, le=10_000, description="networks to train, for a mean and a deviation"
    )
    epochs: int | None = Field(
        None,
        ge=1,
        le=EPOCHS,
        description="epochs of training, for a protocol that counts them; its own if absent",
    )


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``document`` with nested keys written with dots, as ``--set`` takes them."""
    result: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = value
    return result
