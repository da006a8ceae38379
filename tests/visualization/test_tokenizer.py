"""Pictures of reconstructions, codes, redrawn parts and grids: colours where they belong."""

import numpy as np
import pytest
import torch

from visionpatch.errors import ConfigError
from visionpatch.structures import DataSample
from visionpatch.visualization import draw_codes, draw_grid, draw_inpainting, draw_reconstruction, draw_sample
from visionpatch.visualization.tokenizer import EDGE, as_bgr

TITLE = 30  # pixels


def flat(*rgb: int, height: int = 200, width: int = 240) -> torch.Tensor:
    return torch.tensor(rgb).float().view(3, 1, 1).expand(3, height, width)


def sample(**more: torch.Tensor) -> DataSample:
    found = DataSample(gt_image=flat(255, 0, 10), pred_image=flat(0, 99.6, 300))
    found.set_data(more)
    return found


def test_pictures_become_bgr() -> None:
    assert as_bgr(flat(255, 0, 10))[0, 0].tolist() == [10, 0, 255]
    assert as_bgr(flat(0, 99.6, 300))[5, 5].tolist() == [255, 100, 0]


def test_one_map_of_codes_stands_beside_the_pictures() -> None:
    drawn = draw_reconstruction(sample(pred_codes=torch.tensor([[[0], [5]]])))
    assert drawn.shape == (200 + TITLE, 3 * 240 + 2 * 8, 3)
    assert drawn[100, 100].tolist() == [10, 0, 255] and drawn[100, 348].tolist() == [255, 100, 0]
    colours = draw_codes(np.array([[0, 5]]))
    assert (drawn[TITLE:, 496:616] == colours[0, 0]).all() and (drawn[TITLE:, 616:] == colours[0, 1]).all()


def test_several_maps_stand_below() -> None:
    drawn = draw_reconstruction(sample(pred_codes=torch.arange(24).view(2, 3, 4)))
    assert drawn.shape[1] == 2 * 240 + 8
    small = round(200 * (488 - 3 * 8) / 4 / 240)
    assert drawn.shape[0] == 200 + TITLE + small + TITLE
    below, expected = drawn[-small:], draw_codes(np.arange(24).reshape(2, 3, 4)[..., 2])
    assert below[2, 2 * 124 + 2].tolist() == expected[0, 0].tolist()
    assert below[-2, 2 * 124 + 113].tolist() == expected[1, 2].tolist()


def test_without_codes_and_in_a_test_run() -> None:
    drawn = draw_reconstruction(sample())
    assert drawn.shape == (200 + TITLE, 2 * 240 + 8, 3)
    titled = draw_sample(sample(), {})  # needs no classes and no file
    assert np.array_equal(titled[TITLE:], drawn[TITLE:]) and not np.array_equal(titled, drawn)


def test_small_pictures_are_enlarged() -> None:
    given = DataSample(gt_image=flat(1, 2, 3, height=32, width=64), pred_image=flat(1, 2, 3, height=32, width=64))
    assert draw_reconstruction(given).shape == (192 + TITLE, 2 * 384 + 8, 3)


def test_colours_of_codes() -> None:
    colours = draw_codes(np.arange(1024).reshape(32, 32)).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) > 950 and colours.max(1).min() >= 95
    assert draw_codes(np.array([[7]])).tolist() == [[colours[7].tolist()]]


def test_a_line_surrounds_what_was_redrawn() -> None:
    mask = torch.zeros(200, 240, dtype=torch.bool)
    mask[50:100, 60:160] = True
    drawn = draw_inpainting(sample(mask=mask))
    assert drawn.shape == (200 + TITLE, 2 * 240 + 8, 3)
    left, right = drawn[TITLE:, :240], drawn[TITLE:, 248:]
    assert left[50, 100].tolist() == left[75, 60].tolist() == list(EDGE)
    assert left[75, 100].tolist() == left[30, 30].tolist() == [10, 0, 255] and (right == (255, 100, 0)).all()


def test_a_grid() -> None:
    pictures = [flat(i, 0, 0, height=4, width=6) for i in range(5)]
    drawn = draw_grid(pictures)
    assert drawn.shape == (4 * 2 + 2, 6 * 3 + 2 * 2, 3)
    assert drawn[0, 16, 2] == 2 and drawn[6, 0, 2] == 3 and drawn[6, 8, 2] == 4
    assert (drawn[6:, 16:] == 255).all() and (drawn[4:6] == 255).all()
    assert draw_grid(pictures, 1).shape == (5 * 6 - 2, 6, 3)
    for wrong, columns in (([], None), ([flat(0, 0, 0), flat(0, 0, 0, width=5)], None), (pictures, 0)):
        with pytest.raises(ConfigError, match="draw_grid: pictures of"):
            draw_grid(wrong, columns)
