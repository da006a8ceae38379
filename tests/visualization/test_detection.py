"""Boxes, masks and names over a picture: which pixels change, and how."""

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from visionpatch.errors import ConfigError
from visionpatch.visualization import draw_object_pair, draw_objects

CLASSES, PALETTE = ("cat", "dog"), [(200, 100, 0), (0, 0, 250)]  # RGB
BOX = [[100.0, 100, 200, 180]]


def objects(**fields: object) -> InstanceData:
    given = dict(bboxes=BOX, labels=[0]) | fields
    return InstanceData(**{name: torch.as_tensor(np.array(value)) for name, value in given.items()})


def grey(height: int = 300, width: int = 400) -> np.ndarray:
    return np.full((height, width, 3), 100, dtype=np.uint8)


def test_a_box_is_a_line_on_its_first_and_last_pixels() -> None:
    image = grey()
    out = draw_objects(image, objects(), CLASSES, PALETTE)
    assert (image == 100).all() and out.shape == image.shape  # the given picture is not drawn on
    for y, x in ((100, 150), (179, 150), (140, 100), (140, 199)):
        assert out[y, x].tolist() == [0, 100, 200]  # BGR
    assert (out[101:179, 101:199] == 100).all() and (out[181:] == 100).all() and (out[:, 202:] == 100).all()
    assert (out[80:100, 100:150] != 100).any()  # the name


def test_a_mask_is_blended_and_has_an_edge() -> None:
    mask = np.zeros((1, 300, 400), dtype=bool)
    mask[0, 120:160, 120:180] = True
    out = draw_objects(grey(), objects(masks=mask), CLASSES, PALETTE, opacity=0.5)
    faint = draw_objects(grey(), objects(masks=mask), CLASSES, PALETTE, opacity=0)
    assert np.abs(faint[120, 150].astype(int) - [0, 75, 150]).max() < 25 and (faint[140, 150] == 100).all()
    assert out[140, 150].tolist() == [50, 100, 150]
    assert out[110, 150].tolist() == [100, 100, 100]
    opaque = draw_objects(grey(), objects(masks=mask), CLASSES, PALETTE, opacity=1)
    assert opaque[140, 150].tolist() == [0, 100, 200]


def test_low_scores_are_left_out_and_the_best_is_on_top() -> None:
    found = objects(bboxes=BOX * 3, labels=[0, 1, 0], scores=[0.3, 0.9, 0.29])
    out = draw_objects(grey(), found, CLASSES, PALETTE, min_score=0.3)
    assert out[100, 150].tolist() == [250, 0, 0]
    assert (draw_objects(grey(), found, CLASSES, PALETTE, min_score=0.91) == 100).all()
    again = draw_objects(grey(), found, CLASSES, PALETTE, min_score=0.3)
    assert np.array_equal(out, again)


def test_ignored_objects_are_grey() -> None:
    out = draw_objects(grey(), objects(bboxes=np.zeros((0, 4)), labels=[]), CLASSES, PALETTE, ignored=objects())
    assert out[100, 150].tolist() == [150, 150, 150]


@pytest.mark.parametrize("box", [[-50, -50, 900, 900], [395, 2, 399, 5], [5, 5, 5, 5], [9, 9, 2, 2], [np.nan, 0, 1, 1]])
def test_any_box_is_drawn_within_the_picture(box: list) -> None:
    out = draw_objects(grey(), objects(bboxes=[box], scores=[0.5], labels=[7]), CLASSES, PALETTE)
    assert out.shape == (300, 400, 3)


def test_dark_colours_stand_out() -> None:
    """A black line on a black picture has white beside it."""
    out = draw_objects(np.zeros((300, 400, 3), np.uint8), objects(), CLASSES, [(0, 0, 0), (1, 1, 1)])
    assert out[102, 150].tolist() == [255, 255, 255] or out[101, 150].tolist() == [255, 255, 255]


def test_small_and_grey_pictures() -> None:
    """A narrow picture grows by a whole factor, its boxes with it."""
    out = draw_objects(np.full((60, 80), 100, np.uint8), objects(bboxes=[[10, 20, 30, 40]]), CLASSES, PALETTE)
    assert out.shape == (240, 320, 3)
    assert out[80, 60].tolist() == out[159, 60].tolist() == [0, 100, 200] and out[82, 62].tolist() == [100, 100, 100]
    empty = objects(bboxes=np.zeros((0, 4)), labels=[], scores=[], masks=np.zeros((0, 60, 80), bool))
    assert draw_object_pair(grey(), None, empty, CLASSES, PALETTE).shape[1] == 400
    assert draw_object_pair(grey(), objects(), empty, CLASSES, PALETTE).shape[1] == 808


def test_limits() -> None:
    with pytest.raises(ConfigError, match="opacity = 2 must be in 0..1, and 1 colours .* the 2 classes"):
        draw_objects(grey(), objects(), CLASSES, PALETTE[:1], opacity=2)
