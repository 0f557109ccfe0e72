"""The kinds of input, by the names under which cases are done again."""

from __future__ import annotations

from tests.hostile.fuzzing.folders import Folder
from tests.hostile.fuzzing.foreign import Npz, Pt
from tests.hostile.fuzzing.run_files import RunFile
from tests.hostile.fuzzing.sealed import Checkpoint, Set, TeacherFile
from tests.hostile.fuzzing.texts import Assignment, RecipeFile

KINDS = {
    "artefact": Set,
    "teacher": TeacherFile,
    "checkpoint": Checkpoint,
    "run": RunFile,
    "recipe": RecipeFile,
    "set": Assignment,
    "npz": Npz,
    "pt": Pt,
    "folder": Folder,
}
