"""Images through JPEG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from potstill.data.pixels import through_jpeg


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_that_of_a_file_saved_without_options(tmp_path: Path, channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, channels, 16, 16), generator=generator, dtype=torch.uint8)
    found = through_jpeg(images)
    assert found.dtype == torch.uint8 and found.shape == images.shape
    for number, image in enumerate(images):
        array = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        Image.fromarray(array[:, :, 0] if channels == 1 else array).save(tmp_path / "image.jpg")
        read = np.asarray(Image.open(tmp_path / "image.jpg")).reshape(16, 16, channels)
        assert np.array_equal(read, found[number].permute(1, 2, 0).numpy())
    assert not torch.equal(found, images)
