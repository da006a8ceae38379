"""TokenizerInferencer with real models, untrained: sizes, tiles, boxes, seeds."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from small_tokenizers import REST, write_models

from visionpatch.apis import TokenizerInferencer, get_model
from visionpatch.apis.tokenizer import box_mask, cut_around
from visionpatch.errors import BadSampleError, ConfigError, DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two configs with weights."""
    return write_models(tmp_path_factory.mktemp("tokenizer"))


def build(folder: Path, name: str) -> TokenizerInferencer:
    return TokenizerInferencer(folder / f"{name}.py", folder / f"{name}.pth", "cpu")


def picture(height: int = 21, width: int = 30) -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


class TestReconstruct:
    def test_a_picture_of_any_size(self, folder: Path, tmp_path: Path) -> None:
        model, image = build(folder, "tokenizer"), picture()
        sample = model.reconstruct(image)
        assert sample.pred_image.shape == sample.gt_image.shape == (3, 21, 30) and sample.pred_codes.shape == (6, 8, 2)
        assert np.array_equal(sample.gt_image.numpy().round().transpose(1, 2, 0)[..., ::-1], image)
        net = get_model(folder / "tokenizer.py", folder / "tokenizer.pth")
        given = torch.from_numpy(image[..., ::-1].transpose(2, 0, 1).copy())[None] / 127.5 - 1
        with torch.no_grad():
            decoded = net.decode(net.encode(given), (21, 30))
        torch.testing.assert_close(sample.pred_image, ((decoded[0] + 1) * 127.5).clamp(0, 255), rtol=1e-4, atol=1e-3)
        cv2.imwrite(str(tmp_path / "a.png"), image)
        read = model.reconstruct(tmp_path / "a.png")
        assert torch.equal(read.pred_image, sample.pred_image) and read.img_path == str(tmp_path / "a.png")

    def test_tiles(self, folder: Path) -> None:
        model = build(folder, "tokenizer")
        whole, same, tiled = (model.reconstruct(picture(64, 80), tile) for tile in (None, 20, 8))
        assert torch.equal(whole.pred_image, same.pred_image) and torch.equal(whole.pred_codes, tiled.pred_codes)
        assert 0 < (whole.pred_image - tiled.pred_image).abs().mean() < 20
        with pytest.raises(ConfigError, match="tile = 0"):
            model.reconstruct(picture(), 0)

    def test_the_tokenizer_of_a_generator(self, folder: Path) -> None:
        assert build(folder, "generator").reconstruct(picture()).pred_image.shape == (3, 21, 30)

    def test_what_cannot_be(self, folder: Path, tmp_path: Path) -> None:
        model = build(folder, "tokenizer")
        with pytest.raises(BadSampleError, match="does not exist"):
            model.reconstruct(tmp_path / "none.png")
        with pytest.raises(ConfigError, match="inpaint needs a model of type MaskedTokenGenerator"):
            model.inpaint(picture(), (0, 0, 4, 4))
        with pytest.raises(ConfigError, match="generate needs a model of type MaskedTokenGenerator"):
            model.generate(1)
        other = tmp_path / "other.py"
        other.write_text('model = dict(type="FeatureDistance")\n' + REST)
        with pytest.raises(ConfigError, match="of type ImageTokenizer or MaskedTokenGenerator, not FeatureDistance"):
            TokenizerInferencer(other)


class TestInpaint:
    def test_only_what_the_box_touches_changes(self, folder: Path) -> None:
        model, image = build(folder, "generator"), picture(32, 64)  # the model knows 16 x 24
        sample = model.inpaint(image, (20, 4, 30, 12), label=1)
        assert sample.cut == (1, 0, 49, 32) and sample.gt_image.shape == sample.pred_image.shape == (3, 16, 24)
        part = cv2.resize(image[:, 1:49], (24, 16), interpolation=cv2.INTER_AREA)
        assert np.array_equal(sample.gt_image.numpy().round().transpose(1, 2, 0)[..., ::-1], part)
        assert sample.mask.nonzero().min(0).values.tolist() == [2, 9]
        assert sample.mask.nonzero().max(0).values.tolist() == [5, 14] and sample.mask.sum() == 4 * 6
        changed = (sample.pred_image != sample.gt_image).any(0)
        assert changed.any() and not (changed & ~sample.mask).any()

    def test_the_seed_decides(self, folder: Path) -> None:
        model = build(folder, "generator")
        first, again, other = (model.inpaint(picture(), (2, 2, 20, 18), seed=seed) for seed in (1, 1, 2))
        assert torch.equal(first.pred_image, again.pred_image) and not torch.equal(first.pred_image, other.pred_image)

    def test_where_the_part_is_cut(self) -> None:
        assert cut_around((0, 0, 10, 10), (100, 300), (50, 50)) == (0, 0, 100, 100)
        assert cut_around((140, 0, 160, 10), (100, 300), (50, 50)) == (100, 0, 200, 100)
        assert cut_around((290, 90, 310, 99), (100, 300), (50, 50)) == (200, 0, 300, 100)
        assert cut_around((10, 50, 20, 60), (100, 30), (8, 16)) == (0, 48, 30, 63)
        for box in ((5, 5, 5, 9), (5, 9, 9, 5), (1, 2, 3)):
            with pytest.raises(DataError, match="is no box; give x1 y1 x2 y2"):
                cut_around(box, (100, 300), (50, 50))
        for box in ((300, 5, 310, 9), (-9, 5, 0, 9)):
            with pytest.raises(DataError, match="lies outside the picture of 300 x 100 pixels"):
                cut_around(box, (100, 300), (50, 50))

    def test_the_mask_of_a_box(self) -> None:
        found = box_mask((12, 20, 15, 21), (10, 20, 18, 24), (2, 4))  # half of the pixels each way
        assert found.tolist() == [[False, True, True, False], [False] * 4]
        assert box_mask((0, 0, 99, 99), (10, 20, 18, 24), (2, 4)).all()
        assert box_mask((10.1, 20.1, 10.2, 20.2), (10, 20, 18, 24), (2, 4)).sum() == 1


class TestGenerate:
    def test_pictures_do_not_depend_on_the_batch(self, folder: Path) -> None:
        model = build(folder, "generator")
        several = model.generate(3, label=2, seed=5, batch_size=2)
        assert len(several) == 3 and all(one.shape == (3, 16, 24) for one in several)
        for one, other in zip(several, model.generate(3, label=2, seed=5)):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-2)
        assert not torch.equal(several[0], several[1])
        assert not torch.equal(several[0], model.generate(1, label=2, seed=6)[0])

    def test_a_class_that_is_not_there(self, folder: Path) -> None:
        with pytest.raises(DataError, match="classes run from 0 to 2"):
            build(folder, "generator").generate(1, label=3)


def test_both_kinds_of_samples_are_drawn(folder: Path) -> None:
    model, image = build(folder, "generator"), picture()
    assert model.draw(image, model.inpaint(image, (2, 2, 20, 18))).shape == (12 * 16 + 30, 2 * 12 * 24 + 8, 3)
    assert model.draw(image, model.reconstruct(image)).shape[1] == 2 * 10 * 30 + 8
