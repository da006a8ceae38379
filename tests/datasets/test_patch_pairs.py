"""Data sets of patch pairs: test pairs, training pairs with new negatives in every epoch, public lists."""

import pickle
from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from visionpatch.datasets import PatchPairDataset, PatchPairTrainDataset, VisLwirDataset, VisNirDataset
from visionpatch.datasets.pair_folder import PictureCache, read_grey
from visionpatch.datasets.patch_manifest import PatchPair
from visionpatch.datasets.patch_protocol import make_manifests
from visionpatch.datasets.synthetic_pairs import STEP, make_synthetic_pairs
from visionpatch.errors import BadSampleError, ConfigError, DataError
from visionpatch.registry import DATASETS

PIPELINE = [dict(type="LoadPatchPair"), dict(type="PackPatchPair")]
TRAIN = [dict(type="LoadPatchPair"), dict(type="AugmentPatchPair"), dict(type="PackPatchPair")]
HEAD = ",".join(PatchPair._fields) + "\n"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = make_synthetic_pairs(tmp_path_factory.mktemp("pairs"), 8, (288, 256), thermal_bits=16)
    images = [f"synthetic/scene_{number * STEP:06d}" for number in range(8)]
    splits = dict(train=("train", images[:5]), test=("test", images[5:]))
    make_manifests(splits, str(root), str(root / "lists"), limit=24)
    return root


def train(root, **arguments):
    return PatchPairTrainDataset(**dict(manifest=str(root / "lists/train.csv"), data_root=str(root), **arguments))


def test(root, **arguments):
    return PatchPairDataset(**dict(manifest=str(root / "lists/test.csv"), data_root=str(root)) | arguments)


test.__test__ = False


@pytest.fixture
def folders(tmp_path):
    """Two pairs a and b of 100 x 90 in vis and ir without scenes, and a manifest with a line of each label."""
    rng = np.random.default_rng(0)
    for folder in ("vis", "ir"):
        (tmp_path / folder).mkdir()
        for name in "ab":
            cv2.imwrite(str(tmp_path / folder / f"{name}.png"), rng.integers(0, 255, (90, 100), dtype=np.uint8))
    (tmp_path / "m.csv").write_text(HEAD + "R,a,32,32,a,32,32,1\nR,a,32,32,b,68,58,0\n")
    return tmp_path


def small(root, **arguments):
    return PatchPairDataset(manifest=str(root / "m.csv"), data_root=str(root), pipeline=PIPELINE, **arguments)


def test_a_sample(drawn):
    data = test(drawn, sets=("S", "H"), pipeline=PIPELINE, test_mode=True)
    assert {pair.set for pair in data.pairs} == {"S", "H"}
    for index in (0, 1, len(data) - 1):
        sample, pair = data[index], data.pairs[index]
        visible, thermal = (sample["inputs"][name] for name in ("visible", "thermal"))
        assert visible.shape == thermal.shape == (1, 64, 64)
        assert (visible.dtype, thermal.dtype) == (torch.uint8, torch.uint16)  # 16 bits stay 16 bits
        image = read_grey(data.folder.path(pair.image2, "thermal"))
        expected = image[pair.ty - 32 : pair.ty + 32, pair.tx - 32 : pair.tx + 32]
        assert np.array_equal(thermal[0].numpy(), expected)
        meta = sample["data_samples"]
        assert meta.gt_label.tolist() == [pair.label] and meta.centres == pair[2:4] + pair[5:7]
        assert (meta.set, meta.scene) == (pair.set, "synthetic")
        assert meta.img_path.endswith(f"vis/{pair.image[10:]}.png") and f"ir/{pair.image2[10:]}" in meta.thermal_path


def test_every_patch_once_with_its_place_and_once_with_another(drawn):
    data = train(drawn)
    own = {(p.image, p.tx, p.ty) for p in data.pairs}
    kinds = Counter()
    for epoch in range(3):
        for index in range(len(data)):
            pair, kind = data.draw(epoch * len(data) + index)
            patch = data.pairs[index // 2]
            assert pair[:4] == patch[:4] and pair.label == 1 - index % 2
            if pair.label:
                assert pair == patch and kind == ""
                continue
            kinds[kind] += 1
            assert (pair.image2, pair.tx, pair.ty) in own, "negatives are patches of the training images"
            move = np.array([pair.tx - pair.vx, pair.ty - pair.vy])
            assert (pair.image != pair.image2) == (kind == "R")
            assert kind != "S" or abs(move).max() >= 64
            assert kind != "near" or np.hypot(*move) >= 30
    assert len(data) == 2 * len(own) and sum(kinds.values()) == 3 * len(own)
    assert max(kinds.values()) - min(kinds.values()) <= 0.05 * sum(kinds.values())  # a third each


def test_negatives_are_new_in_every_epoch_and_follow_from_the_numbers(drawn):
    data, other = train(drawn), train(drawn)
    negatives = [[data.draw(epoch * len(data) + i)[0] for i in range(1, len(data), 2)] for epoch in range(2)]
    assert sum(a == b for a, b in zip(*negatives)) < 0.1 * len(negatives[0])
    assert negatives[1] == [other.draw(len(data) + i)[0] for i in range(1, len(data), 2)]
    other.seed = 1
    assert negatives[0] != [other.draw(i)[0] for i in range(1, len(data), 2)]
    assert [data.draw(3 * i)[1] for i in range(1, 9, 2)] != [data.draw(len(data) + 3 * i)[1] for i in range(1, 9, 2)]


def test_samples_depend_on_seed_epoch_and_index_alone(drawn):
    data, other = train(drawn, pipeline=TRAIN), train(drawn, pipeline=TRAIN)
    keys = [3, 2, 3 + len(data), 3]
    first = [data[key]["inputs"]["thermal"].int() for key in keys]
    np.random.seed(5)
    second = [other[key]["inputs"]["thermal"].int() for key in reversed(keys)]
    assert all(torch.equal(a, b) for a, b in zip(first, reversed(second)))
    assert torch.equal(first[0], first[3]) and not torch.equal(first[0], first[2])
    state = np.random.get_state()[1].copy()
    assert data[0] is not None and np.array_equal(state, np.random.get_state()[1])


def test_jitter_moves_thermal_patches_of_both_labels_and_stays_inside(drawn):
    data, still = train(drawn, pipeline=PIPELINE), train(drawn, pipeline=PIPELINE, jitter=0)
    moves = {0: [], 1: []}
    for key in range(0, 5 * len(data), 7):
        centres, place = data[key]["data_samples"].centres, data.draw(key)[0]
        assert centres[:2] == (place.vx, place.vy)
        assert 32 <= centres[2] <= 288 - 32 and 32 <= centres[3] <= 256 - 32
        moves[place.label].append((centres[2] - place.tx, centres[3] - place.ty))
    for label in (0, 1):
        found = np.array(moves[label])
        assert abs(found).max() == 3 and {tuple(row) for row in found} > {(-1, 2), (0, 0), (3, -3)} or len(found) < 150
    assert all(still[k]["data_samples"].centres[2:] == tuple(still.draw(k)[0][5:7]) for k in range(6))


def test_where_a_kind_of_negative_does_not_exist(folders):
    """Patches of one image 20 pixels apart: R serves instead; without another image that is an error."""
    (folders / "m.csv").write_text(HEAD + "train,a,32,32,a,32,32,1\ntrain,a,52,32,a,52,32,1\ntrain,b,40,40,b,40,40,1\n")
    data = PatchPairTrainDataset(manifest=str(folders / "m.csv"), data_root=str(folders))
    assert {data.draw(key)[1] for key in range(1, 60, 2)} == {"R"}
    (folders / "m.csv").write_text(HEAD + "train,a,32,32,a,32,32,1\ntrain,a,52,32,a,52,32,1\n")
    with pytest.raises(DataError, match="no negative for"):
        PatchPairTrainDataset(manifest=str(folders / "m.csv"), data_root=str(folders)).draw(1)
    (folders / "m.csv").write_text(HEAD + "train,a,32,32,a,32,32,1\ntrain,a,67,32,a,67,32,1\n")
    data = PatchPairTrainDataset(manifest=str(folders / "m.csv"), data_root=str(folders))
    assert {data.draw(key)[1] for key in range(1, 12, 2)} == {"near"}
    (folders / "m.csv").write_text(HEAD + "train,a,32,32,a,32,32,1\n")
    with pytest.raises(DataError, match="1 matching pairs; two or more"):
        PatchPairTrainDataset(manifest=str(folders / "m.csv"), data_root=str(folders))


def test_what_a_data_set_refuses(folders, drawn):
    assert len(small(folders, test_mode=True)) == 2
    with pytest.raises(DataError, match=r"no pairs of the set H; valid: R"):
        small(folders, sets=("H",))
    (folders / "m.csv").write_text(HEAD + "R,a,32,32,a,32,32,1\n")
    with pytest.raises(DataError, match="set R has 1 matching and 0 other pairs"):
        small(folders, test_mode=True)
    (folders / "m.csv").write_text(HEAD + "R,a,31,32,a,32,32,1\n")
    with pytest.raises(
        BadSampleError, match=r"vis/a.png: the patch of 64 pixels around x, y = \(31, 32\) is not inside"
    ):
        small(folders)[0]
    (folders / "m.csv").write_text(HEAD)
    with pytest.raises(DataError, match="the manifest is empty"):
        small(folders)
    (folders / "m.csv").write_text(HEAD + "R,a,32,32,c,32,32,0\n")
    with pytest.raises(DataError, match="no visible picture of the pair c|no thermal picture of the pair c"):
        small(folders)
    with pytest.raises(ConfigError, match='negatives has .r.; did you mean "R"'):
        train(drawn, negatives=["r"])
    with pytest.raises(ConfigError, match="jitter=-1"):
        train(drawn, jitter=-1)
    with pytest.raises(ConfigError, match="sets names one set"):
        test(drawn, sets=())


def test_missing_partners_and_unequal_sizes(folders):
    cv2.imwrite(str(folders / "ir/a.png"), np.zeros((90, 101), np.uint8))
    with pytest.raises(BadSampleError, match="a.png: 100x90, but its thermal partner .* is 101x90"):
        small(folders)[0]
    (folders / "ir/a.png").unlink()
    with pytest.raises(DataError, match="no thermal picture of the pair a; its partner vis/a.png is there"):
        small(folders)


def test_other_pictures_than_those_of_the_manifest(drawn, tmp_path):
    (tmp_path / "test.csv").write_bytes((drawn / "lists/test.csv").read_bytes())
    sums = (drawn / "lists/test.sha1").read_text()
    (tmp_path / "test.sha1").write_text(("0" if sums[0] != "0" else "1") + sums[1:])
    with pytest.raises(DataError, match="1 of 6 pictures .* missing or differ"):
        test(drawn, manifest=str(tmp_path / "test.csv"))
    assert test(drawn, manifest=str(tmp_path / "test.csv"), verify=False)


def test_eight_and_sixteen_bits_in_one_set(folders):
    """Both depths pass, each as it is."""
    deep = read_grey(str(folders / "ir/b.png")).astype(np.uint16) * 257
    cv2.imwrite(str(folders / "ir/b.png"), deep)
    data = small(folders)
    assert [data[i]["inputs"]["thermal"].dtype for i in range(2)] == [torch.uint8, torch.uint16]
    assert np.array_equal(data[1]["inputs"]["thermal"][0].numpy(), deep[26:90, 36:100])


def test_pictures_in_memory(tmp_path):
    paths = [str(tmp_path / f"{i}.png") for i in range(3)]
    for i, path in enumerate(paths):
        cv2.imwrite(path, np.full((512, 1024), i, np.uint8))  # half a MiB
    cache = PictureCache(1.1)
    assert [int(cache.read(path)[0, 0]) for path in paths] == [0, 1, 2]
    assert list(cache._kept) == paths[1:] and cache.used == 2**20
    assert cache.read(paths[1]) is cache.read(paths[1])
    cv2.imwrite(paths[1], np.full((100, 100), 9, np.uint8))
    assert cache.read(paths[1])[0, 0] == 9 and cache.used == 2**19 + 10_000
    assert pickle.loads(pickle.dumps(cache)).used == 0


def test_vis_nir(tmp_path):
    rng = np.random.default_rng(0)
    for scene in ("field", "urban"):
        (tmp_path / scene).mkdir()
        cv2.imwrite(str(tmp_path / scene / "0_rgb.png"), rng.integers(0, 255, (80, 90, 3), dtype=np.uint8))
        cv2.imwrite(str(tmp_path / scene / "0_nir.png"), rng.integers(0, 255, (84, 90), dtype=np.uint8))
    (tmp_path / "csv").mkdir()
    lines = "0_rgb.png,0_nir.png,32,33,34,35,positive\n0_rgb.png,0_nir.png,32,33,58,52,negative\n"
    for scene in ("field", "urban"):
        (tmp_path / f"csv/{scene}.csv").write_text(f"rgb,nir,rgb_x,rgb_y,nir_x,nir_y,type\n{lines}")
    data = VisNirDataset(data_root=str(tmp_path), scenes=["field", "urban"], pipeline=PIPELINE, test_mode=True)
    sample = data[3]
    assert len(data) == 4 and sample["data_samples"].gt_label.item() == 0
    assert (sample["data_samples"].scene, sample["data_samples"].set) == ("urban", "test")
    # rows y - 31 ... y + 32 counted from 1 are rows y - 32 ... y + 31 counted from 0
    expected = read_grey(str(tmp_path / "urban/0_nir.png"))[52 - 32 : 52 + 32, 58 - 32 : 58 + 32]
    assert np.array_equal(sample["inputs"]["thermal"][0].numpy(), expected)
    (tmp_path / "urban/0_nir.png").unlink()
    with pytest.raises(DataError, match="1 of 4 files of the pairs do not exist, first .*urban/0_nir.png"):
        VisNirDataset(data_root=str(tmp_path), scenes=["field", "urban"])
    with pytest.raises(DataError, match=r"country.csv: no such list of pairs"):
        VisNirDataset(data_root=str(tmp_path), scenes="country")


def test_vis_lwir(tmp_path):
    for folder, sizes in (("vis", (64, 64, 64)), ("ir", (64, 64, 32))):
        (tmp_path / folder / "44").mkdir(parents=True)
        for index, size in enumerate(sizes):
            value = 10 * index + (folder == "ir")
            cv2.imwrite(str(tmp_path / folder / f"44/{index}.png"), np.full((size, size), value, np.uint8))
    (tmp_path / "list.txt").write_text("44,0,1,1\n44,1,0,0\n44,2,2,0\n")  # the thermal index stands first
    data = VisLwirDataset(data_root=str(tmp_path), ann_file="list.txt", pipeline=PIPELINE, test_mode=True)
    sample = data[0]
    assert [int(sample["inputs"][name][0, 0, 0]) for name in ("visible", "thermal")] == [10, 1]
    with pytest.raises(BadSampleError, match="ir/44/2.png: a patch of 32x32 .* expected 64x64"):
        data[2]
    (tmp_path / "list.txt").write_text("44,0,1,1\n")
    with pytest.raises(DataError, match="all 1 pairs have the label 1"):
        VisLwirDataset(data_root=str(tmp_path), ann_file="list.txt", test_mode=True)


def test_base_config(root, real_data, tmp_path):
    """The data sets of RS-LWIR with manifests of a few pictures."""
    if not (real_data / "lwir_visible").is_dir():
        pytest.skip(f"no lwir_visible in {real_data}")
    pictures = str(real_data / "lwir_visible")
    splits = {
        name: (kind, (real_data / f"lwir_visible/splits/{source}.txt").read_text().split()[part])
        for name, kind, source, part in (
            ("roadscene_train", "train", "roadscene_train", slice(3)),
            ("roadscene_val", "test", "roadscene_train", slice(3, 5)),
            ("roadscene_test", "test", "roadscene_test", slice(3)),
        )
    }
    made = make_manifests(splits, pictures, str(tmp_path), limit=12)
    config = Config.fromfile(root / "configs/_base_/datasets/rs_lwir.py")
    for split in ("train", "val", "test"):
        args = dict(config[f"{split}_dataloader"].dataset)
        assert args["manifest"] == f"data/rs_lwir/roadscene_{split}.csv" and args["data_root"] == "data/lwir_visible"
        name = f"roadscene_{split}"
        data = DATASETS.build(args | dict(manifest=str(tmp_path / f"{name}.csv"), data_root=pictures))
        sample = data[len(data) - 1]
        assert len(data) == len(made[name]) * (2 if split == "train" else 1)
        assert sample["inputs"]["visible"].shape == sample["inputs"]["thermal"].shape == (1, 64, 64)
        assert sample["data_samples"].scene == "roadscene"
