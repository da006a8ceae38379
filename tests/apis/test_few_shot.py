"""FewShotInferencer: support sets of pictures and masks in every form, encoded once, saved and read again."""

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from visionpatch.apis import FewShotInferencer, build_inferencer
from visionpatch.apis.few_shot import draw_mask, read_mask
from visionpatch.errors import BadSampleError, ConfigError, DataError, WeightsError

CONFIG = """
pipeline = [dict(type='LoadImage'), dict(type='ResizeToCanvas', size=64), dict(type='PackInputs')]
test_dataloader = dict(dataset=dict(type='EpisodeDataset', pipeline=pipeline))
normalise = dict(type='FewShotDataPreprocessor', mean=[127.0] * 3, std=[128.0] * 3)
model = dict(type='FewShotSegmentor', data_preprocessor=normalise,
             backbone=dict(type='EfficientNetLite', arch='lite0', out_indices=(0,)),
             decode_head=dict(type='PrototypeHead', in_channels=24, in_index=0))
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("few_shot") / "tiny.py"
    path.write_text(CONFIG)
    return path


def picture(left: int, height: int = 48, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """A red square on a blue ground, and its mask."""
    image = np.full((height, width, 3), (200, 30, 20), np.uint8)
    mask = np.zeros((height, width), np.uint8)
    image[10:34, left : left + 24] = (10, 20, 220)
    mask[10:34, left : left + 24] = 1
    return image, mask


def iou(sample: object, mask: np.ndarray) -> float:
    found = sample.pred_sem_seg.data[0].numpy() == 1  # type: ignore[attr-defined]
    return (found & (mask == 1)).sum() / (found | (mask == 1)).sum()


def build(config: Path, *support: object, **options: object) -> FewShotInferencer:
    torch.manual_seed(0)
    return FewShotInferencer(*support, config=config, device="cpu", **options)  # type: ignore[arg-type]


def test_the_class_of_the_support_is_found(config: Path, tmp_path: Path) -> None:
    (image, mask), (query, truth) = picture(4), picture(34)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing of this model is trained, so nothing is said of missing weights
        find = build(config, image, mask)
    sample = find(query)[0]
    assert sample.pred_sem_seg.data.shape == (1, 48, 64) and iou(sample, truth) > 0.5
    cv2.imwrite(str(tmp_path / "a.png"), image)
    cv2.imwrite(str(tmp_path / "m.png"), 7 * mask)
    cv2.imwrite(str(tmp_path / "q.png"), query)
    files = build(config, [tmp_path / "a.png", image], [tmp_path / "m.png", mask.astype(bool)])
    assert {name: len(x) for name, x in files.support.items()} == dict(prototypes=2, area=2)
    torch.testing.assert_close(files.support["prototypes"][0], find.support["prototypes"][0])
    first, second = files([tmp_path / "q.png", query])
    assert torch.equal(first.pred_sem_seg.data, second.pred_sem_seg.data)
    drawn = find.draw(query, sample)
    assert drawn.shape[1] % 64 == 0 and (drawn[: drawn.shape[1] * 48 // 64] != 0).any()


def test_a_saved_support_set_is_the_same(config: Path, tmp_path: Path) -> None:
    find = build(config, *picture(4))
    path = tmp_path / "red.safetensors"
    find.save_support(path)
    torch.manual_seed(0)
    again = FewShotInferencer.from_file(path, config, device="cpu")
    query = picture(30)[0]
    assert torch.equal(find(query)[0].pred_sem_seg.data, again(query)[0].pred_sem_seg.data)
    torch.manual_seed(1)
    with pytest.raises(WeightsError, match=r"red.safetensors: was encoded by another model or with other weights"):
        FewShotInferencer.from_file(path, config, device="cpu")
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:99])
    with pytest.raises(WeightsError, match=r"cut.safetensors: no support set can be read from it"):
        FewShotInferencer.from_file(tmp_path / "cut.safetensors", config, device="cpu")


@pytest.mark.parametrize(
    ("values", "value", "expected"),
    [
        ([0, 255, 255], None, [0, 1, 1]),
        ([0, 1, 255], None, [0, 1, 255]),
        ([0, 7, 7], None, [0, 1, 1]),
        ([3, 7, 255], 7, [0, 1, 255]),
        ([0, 7, 255], 255, [0, 0, 1]),
    ],
)
def test_what_a_mask_says(values: list[int], value: int | None, expected: list[int]) -> None:
    assert read_mask(np.array([values], np.uint8), value).tolist() == [expected]


@pytest.mark.parametrize(
    ("values", "value", "text"),
    [
        ([0, 3, 7], None, "holds the values 3, 7; say which of them is the class: mask_value"),
        ([0, 0, 0], None, "no pixel shows the class (value 1); the mask holds nothing but 0"),
        ([0, 3, 3], 5, "no pixel shows the class (value 5); the mask holds only the values 3"),
    ],
)
def test_masks_that_say_nothing(values: list[int], value: int | None, text: str) -> None:
    with pytest.raises(BadSampleError) as caught:
        read_mask(np.array([values], np.uint8), value)
    assert text in str(caught.value)


def test_support_that_does_not_fit(config: Path, tmp_path: Path) -> None:
    image, mask = picture(4)
    with pytest.raises(DataError, match=r"2 support picture\(s\) with 1 mask\(s\); give one mask a picture"):
        build(config, [image, image], mask)
    with pytest.raises(DataError, match=r"0 support picture\(s\) with 0 mask"):
        build(config, [], [])
    with pytest.raises(BadSampleError, match=r"the mask is 48 x 63 pixels \(height x width\), its picture 48 x 64"):
        build(config, image, mask[:, :63])
    other = tmp_path / "other.py"
    head = "dict(type='LinearClsHead', num_classes=2, in_channels=320)"
    other.write_text(f"model = dict(type='Classifier', backbone=dict(type='EfficientNetLite'), head={head})")
    with pytest.raises(ConfigError, match="FewShotInferencer needs a model of type FewShotSegmentor"):
        build(other, image, mask)
    with pytest.raises(ConfigError, match=r"needs annotated pictures as well: FewShotInferencer"):
        build_inferencer(config)


def test_shapes_are_drawn() -> None:
    mask = draw_mask((6, 8), [(1, 1, 3, 2)], [(5, 0, 7, 0, 7, 4)])
    assert mask[1:3, 1:4].all() and mask[0, 5:8].all() and mask[4, 7] and not mask[5].any() and mask.sum() < 20
    for box, polygon, text in [
        ([(3, 1, 1, 2)], [], "3 1 1 2 is no box"),
        ([], [(1, 2, 3, 4)], "4 numbers are no polygon"),
        ([(90, 90, 95, 95)], [], "adds no pixel to a picture of 8 x 6 pixels"),
    ]:
        with pytest.raises(DataError, match=text):
            draw_mask((6, 8), box, polygon)
