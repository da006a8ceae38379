"""Pictures of matches: where the marks are."""

import numpy as np
import pytest

from visionpatch.errors import ConfigError
from visionpatch.visualization import draw_matches, draw_patches, draw_point_match, draw_scores
from visionpatch.visualization.matching import KEPT, LOST

GREY = np.full((100, 120), 128, np.uint8)


def test_a_score_map_is_dark_to_bright_with_a_ring_at_the_peak():
    scores = np.zeros((4, 8))
    scores[1, 6], scores[3, 0] = 5, np.nan
    drawn = draw_scores(scores)
    assert drawn.shape == (160, 320, 3)  # 40 pixels a place
    assert drawn[60, 260].astype(int).sum() > 450 > drawn[20, 20].astype(int).sum()
    assert drawn[140, 20].tolist() == [255] * 3
    rings = (drawn[10:110, 210:310] == 255).all(-1).sum()
    assert rings > 100 and (drawn[:, :200][:120] == 255).all(-1).sum() == 0
    assert (draw_scores(np.zeros((3, 3)))[0, 0] == draw_scores(np.ones((3, 3)))[0, 0]).all()


def test_a_point_its_place_and_the_search_window():
    scores = np.arange(9.0).reshape(3, 3)
    drawn = draw_point_match(GREY, GREY, (60, 50), (64, 54), scores, (56, 46), 4)
    top = drawn.shape[0] - 318  # titles; the map has 106 pixels a place
    assert drawn.shape[1] == 120 + 8 + 120 + 8 + 318
    left, right = drawn[top : top + 100, :120], drawn[top : top + 100, 128:248]
    for panel, (x, y) in ((left, (60, 50)), (right, (64, 54))):
        assert panel[y, x].tolist() != [128] * 3 and panel[y + 31, x].tolist() != [128] * 3
        assert panel[2, 2].tolist() == [128] * 3
    assert right[46, 60].tolist() != [128] * 3  # the upper edge of the search window
    with pytest.raises(ConfigError, match="no score"):
        draw_point_match(GREY, GREY, (60, 50), (64, 54), np.full((3, 3), np.nan), (56, 46), 4)


def test_lines_join_points_and_places():
    points, places = np.array([[40, 40], [60, 60]]), np.array([[40, 40], [80, 20]])
    drawn = draw_matches(GREY, GREY, points, places, np.array([True, False]))
    top = drawn.shape[0] - 100
    assert drawn.shape[1] == 120 + 8 + 120
    assert drawn[top + 40, 40].tolist() == list(KEPT) == drawn[top + 40, 128 + 40].tolist()
    assert abs(drawn[top + 40, 100].astype(int) - KEPT).max() < 20 > abs(drawn[top + 40, 190].astype(int) - 128).max()
    assert drawn[top + 60, 60].tolist() == list(LOST) == drawn[top + 20, 128 + 80].tolist()
    assert drawn[top + 90, 10].tolist() == [128] * 3


def test_the_patches_of_a_pair():
    same, other = (draw_patches(GREY[:64, :64], GREY[:64, :64] // 2, label) for label in (1, 0))
    assert same.shape[1] == 320 + 8 + 320 and same[-1, 0].tolist() == [128] * 3 and same[-1, -1].tolist() == [64] * 3
    assert (same[:-320, 328:] != other[:-320, 328:]).any() and (same[-320:] == other[-320:]).all()
