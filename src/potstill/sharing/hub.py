"""Sets to and from dataset repositories of the Hugging Face hub, or what ``HF_ENDPOINT`` names."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from potstill.data.distilled import DistilledDataset
from potstill.errors import RunError
from potstill.quoting import quoted, shortened
from potstill.sharing.card import SET
from potstill.sharing.folder import library, write_folder


def push(
    dataset: DistilledDataset,
    repository: str,
    *,
    licence: str = "unknown",
    private: bool = False,
    token: str | None = None,
) -> str:
    """Put the set into the dataset repository ``USER/NAME``, which is made if it is not there.

    What the repository has under the same names is replaced, in one commit.

    Args:
        dataset: the set.
        repository: ``USER/NAME``.
        licence: identifier of the licence of its images, such as ``mit`` or ``cc-by-4.0``.
        private: whether a repository that is made is private.
        token: a token that may write; if None, the one that ``hf auth login`` stored.

    Returns:
        The address of the repository.

    Raises:
        RunError: the hub refuses or is not reached, or the extra ``hub`` is not installed.
    """
    api = library("huggingface_hub").HfApi(token=token)
    with tempfile.TemporaryDirectory() as place, _explained(repository):
        folder = Path(place) / "set"
        write_folder(dataset, folder, licence=licence, name=repository)
        made = api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=str(folder),
            commit_message=f"Set {dataset.digest[:12]}, by potstill",
        )
    return str(made)


def pull(
    repository: str, *, revision: str | None = None, token: str | None = None
) -> DistilledDataset:
    """The set in the dataset repository ``USER/NAME``, to the byte as it was pushed.

    Args:
        repository: ``USER/NAME``.
        revision: a branch, tag or commit; the newest if None.
        token: a token that may read, for a private repository.

    Raises:
        RunError: there is none, the hub is not reached, or the extra ``hub`` is not installed.
        ArtefactError: the file is none that potstill wrote.
    """
    hub = library("huggingface_hub")
    with _explained(repository):
        path = hub.hf_hub_download(
            repository, SET, repo_type="dataset", revision=revision, token=token
        )
    return DistilledDataset.load(path)


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Errors of the hub's library in a line; it raises many types, of several libraries."""
    errors = library("huggingface_hub.errors")
    try:
        yield
    except (errors.HfHubHTTPError, errors.HFValidationError, errors.LocalEntryNotFoundError) as e:
        raise RunError(f"the hub refuses {quoted(repository)}: {_first_line(e)}") from None
    except OSError as error:
        raise RunError(
            f"cannot reach the hub for {quoted(repository)}: {_first_line(error)}; try again later"
        ) from None


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("(Request ID", "For more information"))]
    return shortened(" ".join(said[:2]) or type(error).__name__)
