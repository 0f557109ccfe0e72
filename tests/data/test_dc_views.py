from __future__ import annotations

import torch

from potstill import rng
from potstill.data.dc_views import augmented, crop, rotate, scale


def pictures(n=6, channels=1, side=28):
    return rng.normal((n, channels, side, side), rng.stream(0, "test/images"))


def test_a_crop_moves_the_image_by_four_px_at_most_and_fills_with_the_colour():
    image, colour = pictures(1, 3)[0], torch.tensor([1.0, 2.0, 3.0])
    assert crop(image, 4, 4, colour).equal(image)
    moved = crop(image, 0, 7, colour)
    assert moved[:, 4:, :-3].equal(image[:, :-4, 3:])
    for channel, value in enumerate(colour):
        assert (moved[channel, :4] == value).all() and (moved[channel, :, -3:] == value).all()


def test_scaling_takes_nearest_neighbours_about_the_middle():
    image = pictures(1, 1, 8)[0]
    assert scale(image, 1.0, 1.0).equal(image)
    small = scale(image, 0.8, 1.0)  # 6 rows of 8
    rows = torch.tensor([0, 1, 2, 4, 5, 6])
    assert small[:, 1:7].equal(image[:, rows])
    assert not small[:, [0, 7]].any()
    large = scale(image, 1.0, 1.19)  # 9 columns
    columns = (torch.arange(9) * 8 / 9).long()
    assert large.equal(image[:, :, columns[:8]])


def test_rotation_turns_about_the_middle_and_fills_with_the_colour():
    image = pictures(1)[0]
    torch.testing.assert_close(rotate(image, 0, 0.5), image)
    flat = torch.full((1, 28, 28), 0.5)
    torch.testing.assert_close(rotate(flat, 37, 0.5), flat)
    dot = torch.zeros(1, 29, 29)
    dot[0, 14, 24] = 1.0  # 10 px right of the middle
    turned = rotate(dot, 45, 0.0)
    assert turned.shape == dot.shape
    row, column = divmod(int(turned[0].argmax()), 29)
    assert (row, column) == (7, 21)  # anticlockwise, as one sees it
    assert rotate(flat, 45, -3.0)[0, 0, 0] < -2


def test_every_image_has_an_operation_of_its_own():
    images = pictures(200)
    before = images.clone()
    seen = augmented(images, rng.stream(0, "test/draw"))
    assert images.equal(before) and seen.shape == images.shape and seen.dtype == images.dtype
    assert seen.equal(augmented(images, rng.stream(0, "test/draw")))
    assert not seen.equal(augmented(images, rng.stream(1, "test/draw")))
    same = pictures(1).repeat(200, 1, 1, 1)
    colour = same.mean((0, 2, 3))
    kinds = [0, 0, 0]
    windows = {crop(same[0], r, c, colour).numpy().tobytes() for r in range(8) for c in range(8)}
    turned = {rotate(same[0], d, float(colour)).numpy().tobytes() for d in range(-45, 45)}
    for one in augmented(same, rng.stream(2, "test/draw")):
        found = one.numpy().tobytes()
        kinds[0 if found in windows else 1 if found in turned else 2] += 1
    assert sum(kinds) == 200 and min(kinds) > 40


def test_the_fill_is_the_colour_of_the_whole_batch():
    images = torch.cat([torch.zeros(30, 1, 28, 28), torch.full((30, 1, 28, 28), 2.0)])
    seen = augmented(images, rng.stream(0, "test/draw"))
    assert (seen == 1.0).any()
