"""Potstill's own binary files: distilled sets, teachers and checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from potstill import checkpoints, runs, storage
from potstill.data.distilled import DistilledDataset
from potstill.methods.dwa.distil import GROUPS
from potstill.methods.squeeze import CHECKPOINT, TEACHER
from potstill.teacher import Teacher
from tests.hostile.damage import damaged
from tests.hostile.fuzzing import material
from tests.hostile.fuzzing.uses import Fault, Use, call, command
from tests.hostile.mutations import mutated
from tests.hostile.test_headers import new_set, old_set, sealed, used

_NETWORKS: list[Any] = [
    *({"module": "os:system"}, {"module": "antigravity:x"}, {"pretrained": "torchvision:resnet18"}),
    *({"name": "torchvision:resnet18"}, {"name": "os:system"}, {"width": 16_000}, {"depth": 9}),
]


def changed(path: Path, to: Path, kind: storage.Kind, random: Random) -> None:
    """A file with something wrong within its digests, beside them, or anywhere."""
    document, tensors = storage.decode(path, kind)
    way = random.random()
    if way < 0.5:
        sealed(to, mutated(document, random), tensors, kind)
    elif way < 0.65:
        other = with_other_tensors(tensors, random)
        sealed(to, _agreeing(document, other, random), other, kind)
    elif way < 0.75:
        to.write_bytes(_other_header(path.read_bytes(), random))
    else:
        to.write_bytes(damaged(path.read_bytes(), random))


def with_other_tensors(tensors: dict[str, Tensor], random: Random) -> dict[str, Tensor]:
    """One of them gone, doubled, of another type or shape, or of other numbers."""
    if not tensors:
        return {"0": torch.zeros(2)}
    name = random.choice(sorted(tensors))
    result = dict(tensors)
    if random.random() < 0.2:
        result[random.choice(["x", "images", "preprocess.whitening", "a\n\x1b[2J"])] = result[
            name
        ].clone()
    if random.random() < 0.2:
        del result[name]
    else:
        result[name] = other_tensor(result[name], random)
    return result


def other_tensor(tensor: Tensor, random: Random) -> Tensor:
    """A small tensor with something wrong."""
    floats = [torch.float16, torch.bfloat16, torch.float64]
    types = [*floats, torch.int64, torch.uint8, torch.bool, torch.int8, torch.float8_e4m3fn]
    return random.choice(
        [
            lambda: tensor.to(random.choice(types)),
            lambda: tensor.flatten(),
            lambda: tensor[:0] if tensor.ndim else tensor[None],
            lambda: tensor[:1] if tensor.ndim else tensor.reshape(1, 1),
            lambda: torch.cat([tensor.reshape(-1)] * 3),
            lambda: torch.zeros([0, *tensor.shape]),
            lambda: torch.zeros(()),
            lambda: torch.full(tensor.shape, random.choice([float("nan"), float("inf"), 3e38])),
            lambda: torch.full(tensor.shape, random.choice([0.0, -1.0, 1e-45, 1e30])),
        ]
    )()


def _agreeing(document: Any, tensors: dict[str, Tensor], random: Random) -> Any:
    """Half of the time the document says the shapes that there are."""
    result = dict(document)
    for name in ("images", "labels"):
        if random.random() < 0.5 and isinstance(result.get(name), dict) and name in tensors:
            result[name] = {**result[name], "shape": list(tensors[name].shape)}
    return result


def _other_header(content: bytes, random: Random) -> bytes:
    """The safetensors header with other offsets, shapes, types or names."""
    length = int.from_bytes(content[:8], "little")
    header = mutated(json.loads(content[8 : 8 + length]), random)
    text = json.dumps(header).encode(errors="surrogatepass")
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


class Set:
    """A distilled set, alone in a run's folder."""

    def __init__(self, folder: Path) -> None:
        run = material.run("dwa", folder)
        self._teacher = run / TEACHER
        self._files = [run / runs.DISTILLED, material.run("rcig", folder) / runs.DISTILLED]
        for number, made in enumerate((new_set(), old_set())):
            self._files.append(folder / f"{number}.safetensors")
            made.save(self._files[-1])

    def good(self, place: Path) -> list[Use]:
        path = self._place(place)
        path.write_bytes(self._files[0].read_bytes())
        return self._uses(path)

    def hostile(self, place: Path, random: Random) -> list[Use]:
        path = self._place(place)
        changed(random.choice(self._files), path, storage.DISTILLED_SET, random)
        uses = self._uses(path)
        return [uses[0], *random.sample(uses[1:], 2)]

    def _place(self, place: Path) -> Path:
        (place / "run").mkdir()
        return place / "run" / runs.DISTILLED

    def _uses(self, path: Path) -> list[Use]:
        out = path.parent.parent
        teacher = ["--teacher", self._teacher, "--device", "cpu"]
        return [
            call(lambda: used(path)),
            command("info", path),
            command("info", path, "--json"),
            command("show", path, "--png", out / "set.png"),
            command("report", path.parent, "--out", out / "page.html"),
            command("relabel", path, *teacher, "--epochs", "1", "--out", out / "x.safetensors"),
            command("diversity", path, *teacher, "--no-real", "--no-save"),
        ]


class TeacherFile:
    """A teacher, and a set that it is to label."""

    def __init__(self, folder: Path) -> None:
        run = material.run("dwa", folder)
        self._set, self._teacher = run / runs.DISTILLED, run / TEACHER

    def good(self, place: Path) -> list[Use]:
        path = place / "teacher.safetensors"
        path.write_bytes(self._teacher.read_bytes())
        return self._uses(path)

    def hostile(self, place: Path, random: Random) -> list[Use]:
        path = place / "teacher.safetensors"
        if random.random() < 0.1:
            document, tensors = storage.decode(self._teacher, storage.TEACHER)
            document["network"] = random.choice(_NETWORKS)
            sealed(path, document, tensors, storage.TEACHER)
        else:
            changed(self._teacher, path, storage.TEACHER, random)
        uses = self._uses(path)
        return [uses[0], *random.sample(uses[1:], 2)]

    def _uses(self, path: Path) -> list[Use]:
        out, device = path.parent, ["--device", "cpu"]
        given = ["--teacher", path, *device]
        small = {"images_per_class": 1, "method__iterations": 1, "method__class_batch": 10}
        return [
            call(lambda: _teach(path)),
            command("relabel", self._set, *given, "--epochs", "1", "--out", out / "x.safetensors"),
            command("diversity", self._set, *given, "--no-real", "--no-save"),
            command(*material.distil("dwa", out / "run", "--teacher", str(path), **small)),
        ]


def _teach(path: Path) -> None:
    teacher = Teacher.load(path)
    teacher.save(path.with_name("again.safetensors"))
    assert teacher.channels * teacher.resolution * teacher.classes > 0
    assert teacher.accuracy is None or 0 <= teacher.accuracy <= 1
    assert storage.canonical(teacher.summary())


_STATES = {"rcig": (runs.CHECKPOINT,), "dm": (runs.CHECKPOINT,),
           "dwa": (runs.CHECKPOINT, TEACHER, "groups/00000-000.safetensors"),
           "untaught": (CHECKPOINT,)}  # fmt: skip


class Checkpoint:
    """A state that a run goes on from: of a method, of a teacher's training, a finished group."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        assert (material.run("dwa", folder) / GROUPS / "00000-000.safetensors").exists()

    def good(self, place: Path) -> list[Use]:
        return [self._resumed(name, self._run(name, place / name)) for name in _STATES]

    def hostile(self, place: Path, random: Random) -> list[Use]:
        name = random.choice(sorted(_STATES))
        out = self._run(name, place / "run")
        path = out / random.choice(_STATES[name])
        if path.name == TEACHER:
            changed(path, path, storage.TEACHER, random)
        elif random.random() < 0.5:
            changed(path, path, storage.CHECKPOINT, random)
        else:
            _restated(path, random)
        return [self._resumed(name, out, same=False)]

    def _run(self, name: str, out: Path) -> Path:
        if name == "untaught":
            return material.untaught(self._folder, out)
        return material.unfinished(name, self._folder, out)

    def _resumed(self, name: str, out: Path, same: bool = True) -> Use:
        method = "dwa" if name == "untaught" else name
        resume = command(*material.distil(method, out, "--resume"))

        def use() -> bool:
            accepted = resume()
            whole = material.run(method, self._folder) / runs.DISTILLED
            if accepted and same and (out / runs.DISTILLED).read_bytes() != whole.read_bytes():
                raise Fault("other bytes")
            if accepted:
                DistilledDataset.load(out / runs.DISTILLED)
            return accepted

        use.__name__ = resume.__name__
        return use


def _restated(path: Path, random: Random) -> None:
    """A checkpoint written as they are, of another state or with another header."""
    state, header = checkpoints.read(path)
    if random.random() < 0.7:
        state = _with_other_leaf(state, random) if random.random() < 0.4 else mutated(state, random)
    else:
        header = mutated(header, random)
    try:
        checkpoints.write(path, state, header)
    except (TypeError, RecursionError, storage.ArtefactError):  # it cannot be written as they are
        path.write_bytes(damaged(path.read_bytes(), random))


def _with_other_leaf(state: Any, random: Random) -> Any:
    """The state with another tensor in the place of one."""
    places: list[tuple[Any, Any]] = []
    pending = [state]
    while pending:
        node = pending.pop()
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in pairs:
            if isinstance(value, Tensor):
                places.append((node, key))
            elif isinstance(value, dict | list):
                pending.append(value)
    if places:
        parent, key = random.choice(places)
        parent[key] = other_tensor(parent[key], random)
    return state
