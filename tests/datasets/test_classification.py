import cv2
import numpy as np
import pytest

from visionpatch.datasets import ImageFolderDataset, ListFileDataset
from visionpatch.errors import DataError

PIPELINE = [
    dict(type="LoadImage"),
    dict(type="ResizeEdge", scale=8, interpolation="bicubic"),
    dict(type="CenterCrop", crop_size=6),
    dict(type="PackInputs"),
]


@pytest.fixture
def folders(tmp_path):
    for name, number in (("cat", 2), ("ant", 3)):
        (tmp_path / name).mkdir()
        for i in range(number):
            cv2.imwrite(str(tmp_path / name / f"{i}.png"), np.full((10, 12, 3), i, np.uint8))
    (tmp_path / "list.csv").write_text("file,class_index,name\nant/0.png,3,ant\ncat/1.png,0,cat\n")
    return tmp_path


def test_folder_for_each_class(folders):
    data = ImageFolderDataset(data_root=str(folders), pipeline=PIPELINE)
    assert data.metainfo["classes"] == ("ant", "cat")
    assert [data[i]["data_samples"].gt_label.item() for i in range(5)] == [0, 0, 0, 1, 1]
    assert data[4]["inputs"].shape == (3, 6, 6)
    assert (data[4]["inputs"] == 1).all()


def test_order_of_the_classes_given(folders):
    data = ImageFolderDataset(data_root=str(folders), metainfo=dict(classes=("cat", "ant")))
    assert data.get_data_info(0)["gt_label"] == 0
    assert data.get_data_info(0)["img_id"] == "cat/0.png"
    with pytest.raises(DataError, match='no folder for the class "cats"; did you mean "cat"'):
        ImageFolderDataset(data_root=str(folders), metainfo=dict(classes=("cats",)))


def test_folder_faults(folders):
    (folders / "bee").mkdir()
    (folders / "bee/notes.txt").touch()
    with pytest.raises(DataError, match=r"bee: no images; it holds 1 \.txt"):
        ImageFolderDataset(data_root=str(folders))
    with pytest.raises(DataError, match=r"cat: a folder for each class is expected; it holds 2 \.png"):
        ImageFolderDataset(data_root=str(folders / "cat"))


def test_list_file(folders):
    data = ListFileDataset(data_root=str(folders), ann_file="list.csv", pipeline=PIPELINE)
    assert data.metainfo["classes"] == ("cat", "class 1", "class 2", "ant")
    assert [(s.img_id, s.gt_label.item()) for s in (d["data_samples"] for d in data)] == [
        ("ant/0.png", 3),
        ("cat/1.png", 0),
    ]


@pytest.mark.parametrize(
    "text, message",
    [
        ("file,label\na,1\n", 'no column "class_index"'),
        ("file,class_index\n", "empty"),
        ("file,class_index\nant/0.png,-1\n", "line 2"),
        ("file,class_index\nant/0.png,1\nzz.png,0\n", r"1 of 2 images are not in .*zz\.png"),
        ("file,class_index\nant/0.png,9\n", "up to 9, but there are 5 classes"),
    ],
)
def test_list_faults(folders, text, message):
    (folders / "wrong.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        ListFileDataset(data_root=str(folders), ann_file="wrong.csv", num_classes=5)


def test_missing_list(folders):
    with pytest.raises(DataError, match=r"none\.csv"):
        ListFileDataset(data_root=str(folders), ann_file="none.csv")


def test_imagenet_sample(real_data):
    data = ListFileDataset(
        data_root=str(real_data / "imagenet_sample"),
        ann_file="labels.csv",
        data_prefix=dict(img_path="images"),
        num_classes=1000,
    )
    assert [data.get_data_info(i)["gt_label"] for i in (0, 1, 99)] == [0, 10, 990]
    assert len(data.metainfo["classes"]) == 1000
    assert data.metainfo["classes"][10] == "brambling"
