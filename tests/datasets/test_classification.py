import cv2
import numpy as np
import pytest

from visionpatch.datasets import ImageFolderDataset, ListFileDataset
from visionpatch.errors import BadSampleError, ConfigError, DataError

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
    with pytest.raises(DataError, match=r"bee: no images; it holds 1 \.txt; remove the folder.*allow_empty=True"):
        ImageFolderDataset(data_root=str(folders))
    with pytest.raises(DataError, match=r"cat: a folder for each class is expected; it holds 2 \.png"):
        ImageFolderDataset(data_root=str(folders / "cat"))


@pytest.mark.parametrize("classes", ["cat", ["cat", "cat"], [0, 1], 3])
def test_wrong_class_names(folders, classes):
    with pytest.raises(ConfigError, match=r"ImageFolderDataset: metainfo"):
        ImageFolderDataset(data_root=str(folders), metainfo=dict(classes=classes))


def test_a_class_without_pictures_keeps_the_indices_of_the_others(folders):
    """An evaluation set that lacks a class of the training."""
    (folders / "dog").mkdir()
    data = ImageFolderDataset(
        data_root=str(folders), metainfo=dict(classes=("ant", "bee", "cat", "dog")), allow_empty=True
    )
    assert [label for _, label in data.samples] == [0, 0, 0, 2, 2]
    assert data.metainfo["classes"] == ("ant", "bee", "cat", "dog")


def test_hidden_files_do_not_count(folders):
    for name in ("cat/.0.png", "cat/.ipynb_checkpoints/0.png", ".cache/0.png", "__MACOSX/cat/._0.png"):
        (folders / name).parent.mkdir(parents=True, exist_ok=True)
        (folders / name).write_bytes(b"no picture")
    assert (
        ImageFolderDataset(data_root=str(folders)).samples
        == ImageFolderDataset(data_root=str(folders), metainfo=dict(classes=("ant", "cat"))).samples
    )
    assert [name for name, _ in ImageFolderDataset(data_root=str(folders)).samples[3:]] == ["cat/0.png", "cat/1.png"]


def test_nested_folders_and_numbers(tmp_path):
    for name in ("10/a/b/0.ppm", "2/1.JPEG", "2/0.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(tmp_path / name), np.zeros((4, 4, 3), np.uint8))
    data = ImageFolderDataset(data_root=str(tmp_path), pipeline=PIPELINE)
    assert data.metainfo["classes"] == ("10", "2")
    assert data.samples == [("10/a/b/0.ppm", 0), ("2/0.png", 1), ("2/1.JPEG", 1)]
    assert data[0]["inputs"].shape == (3, 6, 6)


def test_splits_are_no_classes(folders, tmp_path_factory):
    root = tmp_path_factory.mktemp("set")
    for split in ("train", "val"):
        (root / split).symlink_to(folders)
    with pytest.raises(
        DataError, match=r"the folders train, val are splits, not classes; set data_root to one of them"
    ):
        ImageFolderDataset(data_root=str(root))
    assert len(ImageFolderDataset(data_root=str(root), metainfo=dict(classes=("train", "val")))) == 10


def test_a_file_that_is_no_picture(folders):
    (folders / "ant/1.png").write_bytes(b"hello")
    data = ImageFolderDataset(data_root=str(folders), pipeline=PIPELINE)
    with pytest.raises(BadSampleError, match=r"ant/1\.png: not an image"):
        data[1]


def test_list_file(folders):
    data = ListFileDataset(data_root=str(folders), ann_file="list.csv", pipeline=PIPELINE)
    assert data.metainfo["classes"] == ("cat", "class 1", "class 2", "ant")
    assert [(s.img_id, s.gt_label.item()) for s in (d["data_samples"] for d in data)] == [
        ("ant/0.png", 3),
        ("cat/1.png", 0),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "File, Class_Index ,note\nant/0.png, 3 ,a\ncat/1.png,0,\n",
        'class_index;file;note\n3;ant/0.png;"x;y"\n\n0;cat\\1.png;z\n',
        "\ufefffile\tclass_index\r\nant/0.png\t3\r\n./cat/1.png\t0\r\n",
    ],
)
def test_headers_and_separators(folders, text):
    (folders / "other.csv").write_text(text, newline="")
    data = ListFileDataset(data_root=str(folders), ann_file="other.csv", pipeline=PIPELINE)
    assert [label for _, label in data.samples] == [3, 0]
    assert data[1]["inputs"].unique().tolist() == [1]


def test_columns_of_other_names_and_classes_by_name(folders):
    (folders / "other.csv").write_text("id,image,species\n7,ant/0.png,wasp\n8,cat/1.png,bee\n9,cat/0.png,wasp\n")
    columns = dict(ann_file="other.csv", file_column="image", label_column="species")
    data = ListFileDataset(data_root=str(folders), **columns)
    assert data.metainfo["classes"] == ("bee", "wasp")
    assert data.samples == [("ant/0.png", 1), ("cat/1.png", 0), ("cat/0.png", 1)]
    data = ListFileDataset(data_root=str(folders), metainfo=dict(classes=("wasp", "fly", "bee")), **columns)
    assert [label for _, label in data.samples] == [0, 2, 0]
    with pytest.raises(DataError, match='the class "bee" is none of the classes; did you mean "beer"'):
        ListFileDataset(data_root=str(folders), metainfo=dict(classes=("wasp", "beer")), **columns)


def test_absolute_paths_and_folders_of_the_files(folders):
    (folders / "other.csv").write_text(f"file,class_index\n{folders}/ant/0.png,0\n1.png,1\n")
    data = ListFileDataset(data_root=str(folders), ann_file="other.csv", data_prefix=dict(img_path="cat"))
    assert [data.get_data_info(i)["img_path"] for i in range(2)] == [f"{folders}/ant/0.png", f"{folders}/cat/1.png"]
    with pytest.raises(ConfigError, match='data_prefix has no key "imgs"; did you mean "img"'):
        ListFileDataset(data_root=str(folders), ann_file="other.csv", data_prefix=dict(imgs="cat"))


def test_two_classes_may_have_one_name(folders):
    """ "crane" is a bird and a machine in ImageNet."""
    (folders / "other.csv").write_text("file,class_index,name\nant/0.png,0,crane\ncat/1.png,1,crane\n")
    assert ListFileDataset(data_root=str(folders), ann_file="other.csv").metainfo["classes"] == ("crane", "crane")


@pytest.mark.parametrize(
    "text, message",
    [
        ("file,label\na,1\n", 'no column "class_index".* it names file, label; set label_column to the one meant'),
        ("ant/0.png,1\n", 'no column "file"; it lists a picture, but has to name the columns'),
        ("file,class_index\n", "empty"),
        ("", "empty"),
        ("file,class_index\nant/0.png,-1\n", "line 2"),
        ("file,class_index\nant/0.png,1.0\n", "line 2: a file and a class index"),
        ("file,class_index\nant/0.png,1\ncat/0.png,cat\n", "line 3: a file and a class index"),
        ("file,class_index\nant/0.png,ant\ncat/0.png,\n", "line 3: a file and a class name"),
        ("file,class_index\nant/0.png,1\nzz.png,0\n", r"1 of 2 images are not in .*zz\.png"),
        ("file,class_index\nant/0.png,9\n", "up to 9, but there are 5 classes"),
        ("file,class_index\nant/0.png\n", "line 2: 1 cells, but the first line names 2 columns"),
        ("file,class_index\nant/0,5.png,1\n", "line 2: 3 cells, .* stands in double quotes"),
        ("file,class_index\nant/0.png,1\nant/0.png,2\n", r"line 3: ant/0\.png has the class 2 here and 1 before"),
        ("file,class_index,name\nant/0.png,1,a\nant/1.png,1,b\n", 'line 3: class 1 is "b" here and "a" before'),
    ],
)
def test_list_faults(folders, text, message):
    (folders / "wrong.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        ListFileDataset(data_root=str(folders), ann_file="wrong.csv", num_classes=5)


def test_numbers_of_classes_that_contradict_each_other(folders):
    with pytest.raises(DataError, match="num_classes = 3, but there are 5 classes"):
        ListFileDataset(
            data_root=str(folders), ann_file="list.csv", num_classes=3, metainfo=dict(classes=tuple("abcde"))
        )


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


def test_gtsrb(real_data):
    train, test = (ImageFolderDataset(data_root=str(real_data / "gtsrb_small" / split)) for split in ("train", "test"))
    assert (len(train), len(test)) == (782, 278)
    assert train.metainfo == test.metainfo and train.metainfo["classes"][42] == "00042"
    with pytest.raises(DataError, match="the folders test, train are splits"):
        ImageFolderDataset(data_root=str(real_data / "gtsrb_small"))
