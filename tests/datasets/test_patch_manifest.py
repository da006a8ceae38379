"""Protocol RS-LWIR: centres, groups, splits, test sets and the files they are written to."""

import hashlib
from collections import Counter

import cv2
import numpy as np
import pytest

from visionpatch.datasets.pair_folder import PairFolder, read_grey
from visionpatch.datasets.patch_centres import cut_patch, eight_bits, find_centres
from visionpatch.datasets.patch_manifest import check_sums, read_manifest, read_vis_lwir, read_vis_nir, sums_of
from visionpatch.datasets.patch_protocol import (
    check_disjoint,
    draw_permutation,
    make_manifests,
    random_negatives,
    take_groups,
    time_groups,
    validation_groups,
)
from visionpatch.datasets.synthetic_pairs import draw_scene, make_synthetic_pairs
from visionpatch.errors import BadSampleError, ConfigError, DataError

SPLITS = dict(train=("train", range(5)), val=("test", range(5, 8)), test=("test", range(8, 12)))


def names(numbers):
    return [f"synthetic/scene_{100 * number:06d}" for number in numbers]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Twelve drawn scenes and the manifests of three splits."""
    root = make_synthetic_pairs(tmp_path_factory.mktemp("pairs"), 12, (256, 224))
    splits = {name: (kind, names(numbers)) for name, (kind, numbers) in SPLITS.items()}
    return root, splits, make_manifests(splits, str(root), str(root / "lists"), limit=16)


def check_sets(pairs):
    """What section 8 of the protocol demands of test sets; the patches of each set."""
    for kind in ("R", "S", "H"):
        positives = [p for p in pairs if p.set == kind and p.label == 1]
        negatives = [p for p in pairs if p.set == kind and p.label == 0]
        assert len(positives) == len(negatives) > 0
        assert all(p.image == p.image2 and (p.vx, p.vy) == (p.tx, p.ty) for p in positives)
        visible = [Counter((p.image, p.vx, p.vy) for p in part) for part in (positives, negatives)]
        assert visible[0] == visible[1] and max(visible[0].values()) == 1
        moves = np.array([(p.tx - p.vx, p.ty - p.vy) for p in negatives])
        if kind == "R":
            assert all(p.image != p.image2 for p in negatives)
        else:
            assert all(p.image == p.image2 for p in negatives)
        if kind == "S":
            assert (abs(moves).max(1) >= 64).all()
        if kind == "H":
            lengths = np.hypot(*moves.T)
            assert (lengths >= 16).all() and (lengths <= 32).all()
        else:  # each thermal patch once in both labels: one spectrum alone tells nothing
            thermal = [Counter((p.image2, p.tx, p.ty) for p in part) for part in (positives, negatives)]
            assert thermal[0] == thermal[1]


def test_no_image_or_centre_in_two_splits_and_balanced_sets(drawn):
    _, splits, made = drawn
    seen = [{(p.image, p.vx, p.vy) for p in pairs} for pairs in made.values()]
    images = [{p.image for p in pairs} | {p.image2 for p in pairs} for pairs in made.values()]
    assert sum(map(len, images)) == len(set().union(*images)) and sum(map(len, seen)) == len(set().union(*seen))
    for name, (kind, members) in splits.items():
        assert {p.image for p in made[name]} <= set(members)
        if kind == "test":
            check_sets(made[name])
    assert {p.set for p in made["train"]} == {"train"} and all(p.label == 1 for p in made["train"])


def test_the_same_arguments_give_the_same_files(drawn, tmp_path):
    root, splits, made = drawn
    again = make_manifests(splits, str(root), str(tmp_path), limit=16)
    other = make_manifests(splits, str(root), str(tmp_path / "other"), limit=16, seed=1)
    for name in splits:
        for suffix in ("csv", "sha1"):
            file = f"{name}.{suffix}"
            assert (tmp_path / file).read_bytes() == (root / "lists" / file).read_bytes()
        assert read_manifest(str(tmp_path / f"{name}.csv")) == again[name] == made[name]
    assert other["train"] == made["train"] and other["test"] != made["test"]


def test_sha1_of_the_pictures(drawn, tmp_path):
    root, _, _ = drawn
    lines = (root / "lists/val.sha1").read_text().splitlines()
    assert len(lines) == 2 * 3
    digest, name = lines[0].split("  ")
    assert digest == hashlib.sha1((root / name).read_bytes()).hexdigest()
    check_sums(str(root / "lists/val.csv"), PairFolder(str(root)))
    (tmp_path / "val.csv").touch()
    (tmp_path / "val.sha1").write_text(f"{'0' * 40}  {name}\n")
    assert sums_of(str(tmp_path / "val.csv")) == str(tmp_path / "val.sha1")
    with pytest.raises(DataError, match=f"1 of 1 pictures.*first {name}.*make_patch_manifest"):
        check_sums(str(tmp_path / "val.csv"), PairFolder(str(root)))


def test_centres(drawn):
    root, _, made = drawn
    folder = PairFolder(str(root))
    image = names([0])[0]
    visible, thermal = folder.read(image)
    centres = find_centres(visible, thermal, 16)
    assert [(p.vx, p.vy) for p in made["train"] if p.image == image] == list(map(tuple, centres.tolist()))
    apart = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1)) + 1e6 * np.eye(len(centres))
    assert 2 <= len(centres) <= 16 and apart.min() >= 16
    assert (centres >= 32).all() and (centres[:, 0] <= 256 - 32).all() and (centres[:, 1] <= 224 - 32).all()
    for x, y in centres:
        for picture in (visible, thermal):
            patch = cut_patch(picture, x, y)
            assert patch.shape == (64, 64) and patch.std() >= 8
            assert patch[0, 0] == picture[y - 32, x - 32] and patch[-1, -1] == picture[y + 31, x + 31]
    assert len(find_centres(visible, np.full_like(thermal, 90))) == 0  # no texture in one spectrum


def test_sixteen_bits_are_stretched_for_the_corners_only():
    image = np.array([[1000, 2000], [3000, 4000]], np.uint16)
    assert eight_bits(image).tolist() == [[0, 85], [170, 255]]
    assert eight_bits(np.full((2, 2), 7, np.uint16)).tolist() == [[0, 0], [0, 0]]
    visible, thermal = draw_scene(0, thermal_bits=16)
    assert thermal.dtype == np.uint16 and thermal.max() > 20000
    assert len(find_centres(visible, thermal)) > 4


def test_time_groups():
    frames = [
        "s/F_00010",
        "s/F_00060",
        "s/F_00120",
        "s/F_00181",
        "s/F_video_00001",
        "s/F_video_90000",
        "s/odd",
        "t/F_00011",
    ]
    groups = time_groups(frames, gap=60, whole=("F_video_",))
    assert groups == [frames[:3], frames[3:4], frames[4:6], frames[6:7], frames[7:8]]  # a gap of 61 begins a group
    assert time_groups(frames[:4], gap=61) == [frames[:4]]


def test_groups_are_taken_whole():
    groups = [[f"a{i}" for i in range(5)], ["b"], ["c", "d"], ["e", "f", "g"]]
    for seed in range(20):
        taken, rest = take_groups(groups, 4, seed)
        assert sorted(taken + rest) == sorted(groups) and 1 <= sum(map(len, taken)) <= 4
    assert take_groups([["a", "b"], ["c", "d", "e"]], 1, 0)[0] == [["a", "b"]]  # none fits: the smallest
    held, others = validation_groups(groups, 0.1, 0)
    assert len(held) >= 2 and {g[0][0] in "".join(held) for g in groups} == {True, False}
    assert sorted(held + others) == sorted(sum(groups, []))
    assert validation_groups(groups, 0, 0)[0] == [] and validation_groups([["a"]], 0.5, 0) == ([], ["a"])


def test_permutations():
    rng = np.random.default_rng(0)
    for sizes in ((3, 3), (10, 1, 1), (5, 4, 3, 2)):
        patches = [(f"image {k}", i, 0) for k, size in enumerate(sizes) for i in range(size)]
        pairs = random_negatives(patches, rng)
        assert all(a[0] != b[0] for a, b in pairs)
        assert sorted(a for a, _ in pairs) == sorted(b for _, b in pairs)
        expected = min(sum(sizes), 2 * (sum(sizes) - max(sizes)))
        assert len(pairs) == expected
    allowed = np.zeros((5, 5), bool)
    allowed[0, 1] = allowed[1, 2] = allowed[2, 0] = allowed[3, 0] = True
    assert draw_permutation(allowed, rng).tolist() == [1, 2, 0, 3, 4]  # 3 could only take the place of 2
    drawn = {tuple(draw_permutation(~np.eye(4, dtype=bool), rng)) for _ in range(200)}
    assert len(drawn) == 9  # all derangements of four


def test_errors_of_the_protocol(drawn, tmp_path):
    root, _, _ = drawn
    with pytest.raises(ConfigError, match="is in the splits train and test"):
        check_disjoint(dict(train=["a", "b"], test=["b"]))
    with pytest.raises(DataError, match="set R is empty"):
        make_manifests(dict(test=("test", names([8]))), str(root), str(tmp_path))
    with pytest.raises(DataError, match="no visible picture of the pair synthetic/scene_000001; did you mean"):
        make_manifests(dict(test=("test", ["synthetic/scene_000001"])), str(root), str(tmp_path))
    for folder in ("vis", "ir"):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "a.png"), np.full((100, 100), 90, np.uint8))
    assert PairFolder(str(tmp_path)).scenes() == [""] and PairFolder(str(tmp_path)).images("") == ["a"]
    with pytest.raises(DataError, match="train: no patch in 1 pictures"):
        make_manifests(dict(train=("train", ["a"])), str(tmp_path), str(tmp_path))


def test_a_missing_partner_and_unequal_sizes(tmp_path):
    for folder in ("vis", "ir"):
        (tmp_path / folder).mkdir()
    cv2.imwrite(str(tmp_path / "vis/a.png"), np.zeros((100, 120), np.uint8))
    folder = PairFolder(str(tmp_path))
    with pytest.raises(DataError, match=r"vis: 1 pictures have no partner in the other spectrum, first a"):
        folder.images("")
    with pytest.raises(DataError, match=r"no thermal picture of the pair a; its partner vis/a.png is there"):
        folder.path("a", "thermal")
    cv2.imwrite(str(tmp_path / "ir/a.jpg"), np.zeros((100, 121), np.uint8))
    with pytest.raises(BadSampleError, match=r"vis/a.png: 120x100, but its thermal partner .*ir/a.jpg is 121x100"):
        PairFolder(str(tmp_path)).read("a")
    with pytest.raises(DataError, match="expected the folders vis and ir"):
        PairFolder(str(tmp_path / "vis")).scenes()


HEAD = "set,image,vx,vy,image2,tx,ty,label\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        (HEAD, "the manifest is empty"),
        ("set,image,vx,vy,image2,tx,ty\nR,a,1,1,a,1,1\n", "no column label"),
        (HEAD + "R,a,40,40,a,40,40,2\n", 'line 2: label is 1 .* or 0 .*, not "2"'),
        (HEAD + "R,a,40,40,a,40,40,1\nR,a,40,-4,a,40,40,1\n", 'line 3: vy is a pixel counted from 0, not "-4"'),
        (HEAD + "R,a,40,40,a,40,1\n", "line 2: 7 cells, but there are 8 columns"),
    ],
)
def test_wrong_manifests(tmp_path, text, message):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_manifest(str(tmp_path / "m.csv"))
    with pytest.raises(DataError, match=r'no such list of pairs; did you mean "m.csv"'):
        read_manifest(str(tmp_path / "n.csv"))


def test_public_lists(tmp_path):
    (tmp_path / "field.csv").write_text(
        "rgb,nir,rgb_x,rgb_y,nir_x,nir_y,type\n0_rgb.tiff,0_nir.tiff,40,50,41,52,positive\n0_rgb.tiff,1_nir.tiff,40,50,60,61,negative\n"
    )
    pairs = read_vis_nir(str(tmp_path / "field.csv"))
    assert pairs[0] == ("field", "0_rgb.tiff", 40, 50, "0_nir.tiff", 41, 52, 1) and pairs[1].label == 0
    (tmp_path / "list.txt").write_text("44,219,202,1\n42,10,519,0\n")
    assert read_vis_lwir(str(tmp_path / "list.txt")) == [("44", "219", "202", 1), ("42", "10", "519", 0)]
    (tmp_path / "list.txt").write_text("44,219,202,2\n")
    with pytest.raises(DataError, match='line 1: label is 1 .* not "2"'):
        read_vis_lwir(str(tmp_path / "list.txt"))
    (tmp_path / "list.txt").write_text("")
    with pytest.raises(DataError, match="empty"):
        read_vis_lwir(str(tmp_path / "list.txt"))


def test_drawn_scenes(tmp_path):
    visible, thermal = draw_scene(3, (160, 128), 8, seed=1)
    assert visible.shape == thermal.shape == (128, 160) and visible.dtype == thermal.dtype == np.uint8
    again = draw_scene(3, (160, 128), 8, seed=1)
    assert np.array_equal(visible, again[0]) and np.array_equal(thermal, again[1])
    assert not np.array_equal(visible, draw_scene(4, (160, 128), 8, seed=1)[0])
    make_synthetic_pairs(tmp_path, 1, (160, 128), 16)
    assert read_grey(str(tmp_path / "synthetic/ir/scene_000000.png")).dtype == np.uint16
    with pytest.raises(ConfigError, match="thermal_bits=12"):
        make_synthetic_pairs(tmp_path, 1, thermal_bits=12)


def test_drawn_spectra_share_edges_and_not_levels():
    """Over 20 scenes grey levels hardly correlate; the places of strong gradients do."""
    levels, edges = [], []
    for number in range(20):
        pair = [image.astype(np.float32) for image in draw_scene(number)]
        levels.append(np.corrcoef(*(image.ravel() for image in pair))[0, 1])
        slopes = [np.hypot(*np.gradient(cv2.GaussianBlur(image, (0, 0), 2))).ravel() for image in pair]
        edges.append(np.corrcoef(*slopes)[0, 1])
    assert abs(np.mean(levels)) < 0.15 and np.mean(edges) > 0.3


def test_real_pictures(real_data, tmp_path):
    """The counts of the prototype: 10,603 centres of 221 pictures, 36 groups and the video, 55 test images."""
    if not (real_data / "lwir_visible").is_dir():
        pytest.skip(f"no lwir_visible in {real_data}")
    folder = PairFolder(str(real_data / "lwir_visible"))
    images = folder.images("roadscene")
    groups = time_groups(images)
    assert (len(images), len(groups), max(map(len, groups))) == (221, 37, max(map(len, groups)))
    assert sum("video" in group[0] for group in groups) == 1
    taken, rest = take_groups(groups, round(0.25 * 221), 0)
    assert sum(map(len, taken)) == 55 and sum(map(len, rest)) == 166
    lists = {path.stem: path.read_text().split() for path in (real_data / "lwir_visible/splits").iterdir()}
    given = [
        {group[0] for group in groups if set(group) & set(lists[f"roadscene_{name}"])} for name in ("train", "test")
    ]
    assert not given[0] & given[1], "no group in both of the given lists"
    made = make_manifests(dict(test=("test", lists["roadscene_test"][:6])), folder.root, str(tmp_path))
    check_sets(made["test"])
    assert Counter(p.set for p in made["test"]) == dict(R=576, S=576, H=576)  # 48 patches of each picture, twice
