import cv2
import numpy as np
import pytest

from visionpatch.datasets import ConcatDataset, ImageDataset
from visionpatch.errors import ConfigError, DataError

PIPELINE = [dict(type="LoadImage"), dict(type="RandomCrop", crop_size=8), dict(type="PackInputs")]


@pytest.fixture
def root(tmp_path):
    for value, name in enumerate(("b.png", "below/a.jpg", "c.bmp")):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((10, 12, 3), 10 * value, np.uint8))
    (tmp_path / "list.txt").write_text("c\nb.png\n\n")
    (tmp_path / "pictures/notes.txt").write_text("no picture")
    return tmp_path


def test_every_picture_of_a_folder(root):
    data = ImageDataset(data_root=str(root), data_prefix=dict(img_path="pictures"), pipeline=PIPELINE)
    assert [data.get_data_info(i)["img_id"] for i in range(len(data))] == ["b.png", "below/a.jpg", "c.bmp"]
    sample = data[2]
    assert sample["inputs"].shape == (3, 8, 8) and int(sample["inputs"].max()) == 20
    assert "gt_label" not in sample["data_samples"]


def test_the_pictures_of_a_list(root):
    data = ImageDataset(data_root=str(root), data_prefix=dict(img="pictures"), ann_file="list.txt", pipeline=PIPELINE)
    assert data.samples == ["c.bmp", "b.png"]
    assert ImageDataset(data_root=str(root / "pictures"), indices=[1]).samples == ["below/a.jpg"]
    assert len(ConcatDataset([data, ImageDataset(data_root=str(root))])) == 5


def test_what_is_wrong_is_named(root):
    with pytest.raises(DataError, match="no pictures; it holds 1 .txt"):
        (root / "empty").mkdir()
        (root / "empty/readme.txt").write_text("")
        ImageDataset(data_root=str(root / "empty"))
    (root / "list.txt").write_text("c\nd\n")
    with pytest.raises(DataError, match="list.txt: 1 of 2 samples have no image: d"):
        ImageDataset(data_root=str(root), data_prefix=dict(img="pictures"), ann_file="list.txt")
    with pytest.raises(ConfigError, match='no key "seg_map_path"'):
        ImageDataset(data_root=str(root), data_prefix=dict(seg_map_path="pictures"))
    with pytest.raises(DataError, match="folder does not exist"):
        ImageDataset(data_root=str(root / "picture"))
