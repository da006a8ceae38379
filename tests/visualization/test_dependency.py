"""Pictures of trees, parts and saliency: where the pixels are."""

import numpy as np
import pytest

from visionpatch.errors import ConfigError
from visionpatch.palette import colour_map
from visionpatch.visualization import draw_dependency, draw_parts, draw_saliency, draw_tree

PARENT, DEPTH, GRID = np.array([0, 0, 1, 2]), np.array([0, 1, 2, 3]), (2, 2)  # 0 <- 1 <- 2 <- 3
GREY = np.full((300, 280, 3), 128, np.uint8)  # tokens of 160: (80, 80), (240, 80), (80, 240), (240, 240) as x, y


def test_lines_run_between_the_centres():
    drawn = draw_tree(GREY, PARENT, DEPTH, GRID, 160)
    assert drawn.shape == (600, 560, 3)
    pale = drawn[20, 20].tolist()
    assert pale == [192] * 3
    for x, y in ((160, 80), (160, 160), (160, 240), (240, 80), (80, 240), (240, 240)):
        assert drawn[2 * y, 2 * x].tolist() != pale, (x, y)
    for x, y in ((80, 160), (240, 160)):  # nobody's edge
        assert drawn[2 * y, 2 * x].tolist() == pale, (x, y)


def test_the_root_has_a_ring():
    drawn = draw_tree(GREY, PARENT, DEPTH, GRID, 160)
    ring = drawn[2 * 80 - 40 : 2 * 80 + 40, 2 * 80 - 40 : 2 * 80 + 40].reshape(-1, 3)
    other = drawn[2 * 240 - 40 : 2 * 240 + 40, 2 * 240 - 40 : 2 * 240 + 40].reshape(-1, 3)
    assert (ring == 255).all(1).sum() > 20 and (other == 255).all(1).sum() == 0


def test_parts_have_the_colours_of_the_palette():
    drawn = draw_parts(GREY, np.array([0, 1, 1, 2]), GRID, 160, opacity=1.0)
    for place, part in enumerate((0, 1, 1, 2)):
        y, x = 2 * 80 + 320 * (place // 2), 2 * 80 + 320 * (place % 2)
        assert drawn[y, x].tolist() == list(colour_map(4)[part + 1][::-1])


def test_saliency_is_dark_to_bright():
    values = np.zeros((300, 280))
    values[:, 140:] = 1.0
    drawn = draw_saliency(GREY, values, opacity=1.0)
    assert drawn[300, 100].astype(int).sum() < 200
    assert drawn[300, 500].astype(int).sum() > 450
    assert (draw_saliency(GREY, values, opacity=0.0) == 128).all()


def test_small_pictures_are_enlarged_and_all_four_stand_side_by_side():
    image = np.zeros((8, 8, 3), np.uint8)
    drawn = draw_dependency(image, PARENT, DEPTH, np.zeros(4, int), np.zeros((8, 8)), GRID, 4)
    assert drawn.shape[1] == 4 * 480 + 3 * 8 and drawn.shape[0] > 480


@pytest.mark.parametrize(("grid", "stride", "opacity"), [((2, 3), 160, 0.5), ((2, 2), 100, 0.5), ((2, 2), 160, 1.5)])
def test_what_does_not_fit_is_refused(grid: tuple[int, int], stride: int, opacity: float):
    with pytest.raises(ConfigError, match="4 tokens"):
        draw_tree(GREY, PARENT, DEPTH, grid, stride, opacity)
    with pytest.raises(ConfigError, match="a map of"):
        draw_saliency(GREY, np.zeros((2, 2)))
