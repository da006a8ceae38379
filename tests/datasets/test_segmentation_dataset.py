"""The base of the segmentation formats: what it gives, and what it refuses before training."""

import re

import cv2
import numpy as np
import pytest

from visionpatch.datasets import FolderDataset, PascalVOCDataset, SegmentationDataset
from visionpatch.errors import BadSampleError, ConfigError, DataError
from visionpatch.palette import colour_map

LOAD = [dict(type="LoadImage"), dict(type="LoadAnnotations"), dict(type="PackInputs")]
PREFIX = dict(img_path="images", seg_map_path="masks")
META = dict(classes=("ground", "crack"))


def dataset(folder, **kwargs):
    arguments = dict(data_root=str(folder), data_prefix=PREFIX, metainfo=META, pipeline=LOAD)
    return SegmentationDataset(**{**arguments, **kwargs})


class TestGives:
    def test_samples(self, pair_folder):
        data = dataset(pair_folder)
        assert (len(data), data.stems) == (3, ["a", "b", "c"])
        sample = data[1]["data_samples"]
        assert sample.img_path == f"{pair_folder}/images/b.jpg"
        assert sample.seg_path == f"{pair_folder}/masks/b.png"
        assert (sample.img_id, sample.sample_idx, sample.ori_shape) == ("b", 1, (10, 20))
        assert sample.gt_sem_seg.data[0, 0, 0] == 255

    def test_metainfo(self, pair_folder):
        assert dataset(pair_folder).metainfo == dict(classes=("ground", "crack"), palette=[(0, 0, 0), (128, 0, 0)])
        palette = [[1, 2, 3], [4, 5, 6]]
        assert dataset(pair_folder, metainfo=dict(**META, palette=palette)).metainfo["palette"] == [
            (1, 2, 3),
            (4, 5, 6),
        ]

    def test_keys_are_epoch_and_index(self, pair_folder):
        data = dataset(pair_folder)
        assert data.split_key(7) == (2, 1)
        assert data.split_key(-1) == (0, 2)
        with pytest.raises(IndexError):
            data[-4]
        assert data[7]["data_samples"].img_id == "b"
        assert len(list(data)) == 3

    def test_split_list(self, pair_folder):
        (pair_folder / "list.txt").write_bytes(b"\xef\xbb\xbfc\r\na.jpg\r\n\r\n")
        assert dataset(pair_folder, ann_file="list.txt").stems == ["c", "a"]

    def test_indices(self, pair_folder):
        assert dataset(pair_folder, indices=2).stems == ["a", "b"]
        assert dataset(pair_folder, indices=-1).stems == ["c"]
        assert dataset(pair_folder, indices=[2, 0]).stems == ["c", "a"]
        with pytest.raises(ConfigError, match=r"\[3\]"):
            dataset(pair_folder, indices=[3])
        with pytest.raises(DataError, match="indices=0"):
            dataset(pair_folder, indices=0)

    def test_subfolders(self, pair_folder):
        for folder, suffix in (("images", "jpg"), ("masks", "png")):
            (pair_folder / folder / "x y").mkdir()
            (pair_folder / folder / f"a.{suffix}").rename(pair_folder / folder / "x y" / f"ä.{suffix}")
        data = dataset(pair_folder)
        assert data.stems == ["b", "c", "x y/ä"]
        assert data[2]["inputs"].shape == (3, 10, 20)

    def test_without_masks_in_test_mode_only(self, pair_folder):
        data = dataset(pair_folder, data_prefix=dict(img_path="images"), test_mode=True, pipeline=LOAD[::2])
        assert "gt_sem_seg" not in data[0]["data_samples"]
        with pytest.raises(ConfigError, match="seg_map_path"):
            dataset(pair_folder, data_prefix=dict(img_path="images"))

    def test_data_folder_of_the_environment(self, pair_folder, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path.parent)
        monkeypatch.setenv("VISIONPATCH_DATA", str(pair_folder.parent))
        assert dataset(f"data/{pair_folder.name}").img_dir == f"{pair_folder}/images"


class TestClasses:
    def test_a_selection_keeps_the_names_numbers_apart(self, sample_root):
        from visionpatch.datasets.sample_set import CLASSES

        class Shapes(PascalVOCDataset):
            METAINFO = dict(classes=CLASSES, palette=colour_map(21))

        arguments = dict(data_root=str(sample_root), ann_file="ImageSets/Segmentation/train.txt", pipeline=LOAD)
        whole = Shapes(**arguments)
        some = Shapes(metainfo=dict(classes=(CLASSES[5], "background")), **arguments)
        assert some.metainfo["palette"] == [colour_map(21)[5], (0, 0, 0)]
        for index in range(8):
            a, b = (d[index]["data_samples"].gt_sem_seg.data for d in (whole, some))
            assert ((b == 0) == (a == 5)).all()
            assert ((b == 1) == (a == 0)).all()
            assert ((b == 255) == ((a != 5) & (a != 0))).all()

    def test_a_misspelt_name(self, sample_root):
        with pytest.raises(ConfigError, match='"aeroplain".*did you mean "aeroplane"'):
            PascalVOCDataset(data_root=str(sample_root), metainfo=dict(classes=("background", "aeroplain", "cat")))

    def test_other_names_are_the_folders_own(self, sample_root):
        from visionpatch.datasets.sample_set import CLASSES

        data = PascalVOCDataset(data_root=str(sample_root), metainfo=dict(classes=CLASSES))
        assert data.metainfo["classes"] == CLASSES
        assert data.metainfo["palette"] == colour_map(21)

    @pytest.mark.parametrize(
        "metainfo, message",
        [
            (None, "needs metainfo"),
            (dict(classes="crack"), "tuple of names"),
            (dict(classes=("a", "a")), "more than once"),
            (dict(classes=[str(i) for i in range(256)]), "255"),
            (dict(**META, palette=[(0, 0, 0)]), "1 colours for 2 classes"),
        ],
    )
    def test_faults(self, pair_folder, metainfo, message):
        with pytest.raises(ConfigError, match=message):
            dataset(pair_folder, metainfo=metainfo)

    def test_voc_colours(self):
        assert colour_map(21)[15:] == [
            (192, 128, 128),
            (0, 64, 0),
            (128, 64, 0),
            (0, 192, 0),
            (128, 192, 0),
            (0, 64, 128),
        ]
        assert colour_map(256)[255] == (224, 224, 192)


class TestRefuses:
    def test_missing_root(self, tmp_path):
        (tmp_path / "mine").mkdir()
        with pytest.raises(DataError, match=r'miine: folder does not exist.*did you mean "mine"'):
            dataset(tmp_path / "miine")

    def test_missing_folder(self, pair_folder):
        with pytest.raises(DataError, match=r'image: folder does not exist \(data_prefix.img_path\).*"images"'):
            dataset(pair_folder, data_prefix=dict(img_path="image", seg_map_path="masks"))

    def test_wrong_suffix_tells_what_there_is(self, pair_folder):
        with pytest.raises(DataError, match=r'images: none of its files ends with ".jpeg" \(img_suffix\).*3 \.jpg'):
            dataset(pair_folder, img_suffix=".jpeg")
        with pytest.raises(DataError, match=r'masks: none .*".bmp" \(seg_map_suffix\).*3 \.png'):
            dataset(pair_folder, seg_map_suffix=".bmp")

    def test_empty_folder(self, pair_folder):
        (pair_folder / "none").mkdir()
        with pytest.raises(DataError, match="it holds no files"):
            dataset(pair_folder, data_prefix=dict(img_path="none", seg_map_path="masks"))

    def test_empty_split(self, pair_folder):
        (pair_folder / "list.txt").write_text("\n \n")
        with pytest.raises(DataError, match=r"list\.txt: split list \(ann_file\) is empty"):
            dataset(pair_folder, ann_file="list.txt")

    def test_missing_split(self, pair_folder):
        (pair_folder / "train.txt").write_text("a")
        with pytest.raises(DataError, match=r'trainn\.txt: split list.*did you mean "train.txt"'):
            dataset(pair_folder, ann_file="trainn.txt")

    @pytest.mark.parametrize("folder, what", [("images", "image"), ("masks", "mask")])
    def test_split_naming_a_missing_file(self, pair_folder, folder, what):
        next((pair_folder / folder).glob("b.*")).unlink()
        (pair_folder / "list.txt").write_text("a\nb\nzz\n")
        expected = rf"list\.txt: 2 of 3 samples have no {what}: b, zz \(expected .*{folder}/b\.(jpg|png)\)"
        if folder == "masks":
            (pair_folder / "list.txt").write_text("a\nb\n")
            expected = rf"list\.txt: 1 of 2 samples have no {what}: b \(expected .*masks/b\.png\)"
        with pytest.raises(DataError, match=expected):
            dataset(pair_folder, ann_file="list.txt")

    def test_image_without_mask_in_a_folder(self, pair_folder):
        (pair_folder / "masks/c.png").unlink()
        with pytest.raises(DataError, match="1 of 3 samples have no mask: c"):
            dataset(pair_folder)

    def test_wrong_key_of_the_prefix(self, pair_folder):
        with pytest.raises(ConfigError, match='data_prefix has no key "seg_path"; did you mean "seg_map_path"'):
            dataset(pair_folder, data_prefix=dict(img_path="images", seg_path="masks"))

    @pytest.mark.parametrize("arguments", [dict(ignore_index=-1), dict(ignore_index=300), dict(label_map={1: 999})])
    def test_wrong_values(self, pair_folder, arguments):
        with pytest.raises(ConfigError, match=next(iter(arguments))):
            dataset(pair_folder, **arguments)

    def test_bad_sample_names_its_file(self, pair_folder):
        (pair_folder / "images/b.jpg").write_bytes(b"")
        cv2.imwrite(str(pair_folder / "masks/c.png"), np.full((10, 20), 9, np.uint8))
        data = dataset(pair_folder)
        with pytest.raises(BadSampleError, match=rf"^{re.escape(str(pair_folder))}/images/b\.jpg: file is empty"):
            data[1]
        with pytest.raises(BadSampleError, match=rf"^{re.escape(str(pair_folder))}/masks/c\.png: .*9 \(200 px\)"):
            data[2]

    def test_transform_that_gives_nothing(self, pair_folder):
        with pytest.raises(BadSampleError, match=r"a\.jpg: a transform returned nothing"):
            dataset(pair_folder, pipeline=[lambda results: None])[0]


class TestFolder:
    def folder(self, root, **kwargs):
        arguments = dict(data_root=str(root), data_prefix=PREFIX, metainfo=META, pipeline=LOAD)
        return FolderDataset(**{**arguments, **kwargs})

    def test_any_suffix(self, pair_folder):
        image = cv2.imread(str(pair_folder / "images/a.jpg"))
        (pair_folder / "images/a.jpg").unlink()
        cv2.imwrite(str(pair_folder / "images/a.PNG"), image)
        data = self.folder(pair_folder)
        assert data.stems == ["a", "b", "c"]
        assert data.get_data_info(0)["img_path"].endswith("images/a.PNG")

    def test_masks_of_0_and_255(self, pair_folder):
        mask = np.zeros((10, 20), np.uint8)
        mask[2:5] = 255
        for stem in "abc":
            cv2.imwrite(str(pair_folder / f"masks/{stem}.png"), mask)
        labels = self.folder(pair_folder, label_map={255: 1})[0]["data_samples"].gt_sem_seg.data
        assert np.array_equal(labels[0], mask // 255)

    def test_one_stem_twice(self, pair_folder):
        (pair_folder / "images/a.png").touch()
        with pytest.raises(DataError, match=r"a\.jpg and a\.png have the same stem; set img_suffix"):
            self.folder(pair_folder)
        assert len(self.folder(pair_folder, img_suffix=".jpg")) == 3

    def test_both_in_one_folder(self, pair_folder):
        for path in (pair_folder / "masks").iterdir():
            path.rename(pair_folder / "images" / path.name)
        prefix = dict(img_path="images", seg_map_path="images")
        assert len(self.folder(pair_folder, data_prefix=prefix, img_suffix=".jpg", seg_map_suffix=".png")) == 3
