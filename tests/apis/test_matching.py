"""MatchingInferencer: points are found again under a known shift, and shared features give the same scores."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from visionpatch.apis import MatchingInferencer
from visionpatch.apis.matching import moved_by, peak_confidence, search_grid
from visionpatch.datasets.synthetic_pairs import draw_scene
from visionpatch.errors import BadSampleError, ConfigError, DataError

MODEL = """
test_dataloader = dict(dataset=dict(
    type="PatchPairDataset", manifest="none.csv", data_root="none",
    pipeline=[dict(type="LoadPatchPair"), dict(type="PackPatchPair")],
))
model = dict(
    type="PatchMatcher", data_preprocessor=dict(type="PatchPairPreprocessor", input_norm="{norm}"),
    backbone={backbone}, head={head},
)
"""
AGUILERA = 'dict(type="PatchEncoder", arch="aguilera", shared={})'
SIAMESE = 'dict(type="SiameseHead", in_channels=(256,))'
METHODS = {  # name: backbone, head, whether "unit" patches of one picture can share their features
    "gradient": ("None", 'dict(type="GradientNCCHead")', True),
    "two-channel": ("None", 'dict(type="TwoChannelHead")', True),
    "siamese": (AGUILERA.format(True), SIAMESE, True),
    "pseudo-siamese": (AGUILERA.format(False), SIAMESE, True),
    "hardnet": (
        'dict(type="PatchEncoder", arch="hardnet", shared=True, width=4)',
        'dict(type="DescriptorHead", in_channels=(16,))',
        False,
    ),
    "md_frn": (
        'dict(type="FourBranchEncoder", width=2)',
        'dict(type="MDFRNHead", in_channels=(4, 8, 16), channels=4)',
        False,
    ),
}
UNTRAINED = pytest.mark.filterwarnings("ignore:MatchingInferencer without weights")


def build(folder: Path, method: str = "gradient", norm: str = "standardize") -> MatchingInferencer:
    backbone, head, _ = METHODS[method]
    path = folder / f"{method}_{norm}.py"
    path.write_text(MODEL.format(norm=norm, backbone=backbone, head=head))
    torch.manual_seed(0)
    return MatchingInferencer(path, device="cpu")


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray]:
    return draw_scene(1, (176, 144))


def one_by_one(matcher: MatchingInferencer, visible: np.ndarray, thermal: np.ndarray, point: Any, place: Any) -> float:
    """The score of a single pair of patches."""
    cut = [image[y - 32 : y + 32, x - 32 : x + 32] for image, (x, y) in ((visible, point), (thermal, place))]
    return float(matcher([cut])[0].pred_score)


class TestPoints:
    def test_a_moved_point_is_found(self, tmp_path: Path, scene: tuple) -> None:
        visible, thermal = scene
        found = build(tmp_path).match(visible, moved_by(thermal, (6, -4)), [(70, 64), (90.4, 80)], radius=8)
        assert found.points.tolist() == [[70, 64], [90, 80]] and found.places.tolist() == [[76, 60], [96, 76]]
        assert found.maps.shape == (2, 9, 9) and found.corners.tolist() == [[62, 56], [82, 72]]
        assert found.maps[0, 2, 7] == found.maps[0].max() == pytest.approx(found.scores[0])
        assert (found.confidence > 0.2).all() and (found.confidence <= 1).all()

    def test_from_thermal_to_visible_and_an_offset(self, tmp_path: Path, scene: tuple) -> None:
        visible, thermal = scene
        search = dict(radius=6, offset=(20, 0), spectrum="thermal")
        found = build(tmp_path).match(thermal, moved_by(visible, (22, 2)), [(70, 64)], **search)
        assert found.places.tolist() == [[92, 66]] and found.titles == ("thermal", "visible")

    def test_places_outside_have_no_score(self, tmp_path: Path, scene: tuple) -> None:
        found = build(tmp_path).match(*scene, [(32, 32)], radius=8, step=4)
        assert np.isnan(found.maps[0, :2]).all() and np.isnan(found.maps[0, :, :2]).all()
        assert np.isfinite(found.maps[0, 2:, 2:]).all()

    @UNTRAINED
    def test_the_thermal_patch_is_given_to_the_thermal_encoder(self, tmp_path: Path, scene: tuple) -> None:
        matcher, (visible, thermal) = build(tmp_path, "pseudo-siamese"), scene
        there = matcher.match(visible, thermal, [(60, 60)], radius=2).maps[0]
        back = [
            matcher.match(thermal, visible, [(x, y)], radius=0, spectrum="thermal", offset=(60 - x, 60 - y)).maps[
                0, 0, 0
            ]
            for y in (58, 60, 62)
            for x in (58, 60, 62)
        ]
        np.testing.assert_allclose(there.ravel(), back, rtol=1e-4, atol=1e-5)

    def test_pictures_from_files_of_8_and_16_bits(self, tmp_path: Path) -> None:
        visible, thermal = draw_scene(1, (176, 144), thermal_bits=16)
        cv2.imwrite(str(tmp_path / "v.png"), cv2.cvtColor(visible, cv2.COLOR_GRAY2BGR))
        cv2.imwrite(str(tmp_path / "t.png"), thermal)
        matcher = build(tmp_path)
        files = matcher.match(tmp_path / "v.png", tmp_path / "t.png", [(70, 64)], radius=4)
        arrays = matcher.match(visible, thermal, [(70, 64)], radius=4)
        assert files.other.dtype == np.uint16
        np.testing.assert_array_equal(files.maps, arrays.maps)
        assert files.draw().dtype == np.uint8


@UNTRAINED
class TestSharedFeatures:
    @pytest.mark.parametrize("method", METHODS)
    def test_scores_are_those_of_single_pairs(self, tmp_path: Path, scene: tuple, method: str) -> None:
        matcher = build(tmp_path, method, "unit")
        assert matcher.exact == METHODS[method][2]
        found = matcher.match(*scene, [(60, 60), (84, 72)], radius=12, step=12)
        for index in (0, 1):
            for row, column in ((0, 0), (1, 2)):
                place = found.corners[index] + 12 * np.array([column, row])
                single = one_by_one(matcher, *scene, found.points[index], place)
                score = float(found.maps[index, row, column])
                score = 1 / (1 + np.exp(-score)) if matcher.model.head.probability else score
                assert score == pytest.approx(single, rel=1e-4, abs=1e-5)

    def test_where_they_are_not_exact_windows_are_encoded_by_themselves(self, tmp_path: Path, scene: tuple) -> None:
        matcher = build(tmp_path, "siamese", "standardize")
        assert not matcher.exact
        found = matcher.match(*scene, [(60, 60)], radius=12, step=12)
        score = 1 / (1 + np.exp(-float(found.maps[0, 0, 1])))
        assert score == pytest.approx(one_by_one(matcher, *scene, (60, 60), (60, 48)), rel=1e-4)

    def test_sharing_on_request(self, tmp_path: Path, scene: tuple) -> None:
        """Of a lone window it changes nothing; of several it does where the encoder pads and normalises."""
        matcher = build(tmp_path, "md_frn", "unit")
        for radius, equal in ((0, True), (8, False)):
            both = [
                matcher.match(*scene, [(80, 72)], radius=radius, step=8, share=share).maps for share in (False, True)
            ]
            assert np.isfinite(both).all() and np.allclose(*both, rtol=1e-4) == equal

    def test_the_encoder_runs_once_a_window_or_phase(self, tmp_path: Path, scene: tuple) -> None:
        """A grid of neighbouring points has common windows, and those of one phase come from one picture."""
        for norm, most in (("standardize", 40), ("unit", 4)):
            matcher = build(tmp_path, "siamese", norm)
            seen: list[int] = []
            encode = matcher.model.backbone.encode
            matcher.model.backbone.encode = lambda x, s, e=encode, seen=seen: (seen.append(len(x)), e(x, s))[1]
            matcher.match(*scene, [(60, 60), (72, 60), (60, 72), (72, 72)], radius=12, step=12)
            assert sum(seen) <= most, (norm, seen)  # 4 x 9 pairs of 4 and 16 windows


class TestGrid:
    def test_inliers_under_a_known_shift(self, tmp_path: Path, scene: tuple) -> None:
        matcher = build(tmp_path)
        found = matcher.match_grid(scene[0], moved_by(scene[1], (8, -4)), spacing=16, radius=12, step=4)
        assert found.points[0].tolist() == [32, 32] and len(found.points) == 8 * 6
        assert found.inlier_rate((8, -4), checked=False) > 0.7
        assert found.inlier_rate((8, -4)) >= found.inlier_rate((8, -4), checked=False)
        assert found.inlier_rate((-8, 4)) < 0.1
        assert matcher.inlier_rate(*scene, (8, -4), radius=12) == found.inlier_rate((8, -4))

    def test_a_match_that_does_not_come_back_is_dropped(self, tmp_path: Path) -> None:
        """In an equal picture each comes back; in an unrelated one few do."""
        rng = np.random.default_rng(0)
        picture = cv2.resize(rng.integers(0, 256, (16, 24), np.uint8), (160, 96), interpolation=cv2.INTER_CUBIC)
        found = build(tmp_path).match_grid(picture, picture, spacing=16, radius=16)
        assert found.kept.all() and np.array_equal(found.points, found.places)
        assert found.inlier_rate() == 1 and np.isclose(found.scores, 1).all()
        other = cv2.resize(rng.integers(0, 256, (16, 24), np.uint8), (160, 96), interpolation=cv2.INTER_CUBIC)
        assert build(tmp_path).match_grid(picture, other, spacing=16, radius=16).kept.mean() < 0.6

    def test_the_rate_by_hand(self, tmp_path: Path, scene: tuple) -> None:
        found = build(tmp_path).match_grid(*scene, spacing=40, radius=0)
        assert np.array_equal(found.points, found.places) and found.kept.all()
        assert found.inlier_rate((3, 0)) == 1 and found.inlier_rate((3, 3)) == 0
        object.__setattr__(found, "kept", np.zeros(len(found.kept), bool))
        assert np.isnan(found.inlier_rate()) and found.inlier_rate(checked=False) == 1

    def test_pictures_of_other_sizes(self, tmp_path: Path, scene: tuple) -> None:
        found = build(tmp_path).match_grid(scene[0], scene[1][:100, :120], spacing=16, radius=8)
        assert (found.places <= [120 - 32, 100 - 32]).all() and found.points.max(0).tolist() == [96, 64]


def test_confidence_by_hand() -> None:
    grid = search_grid(12, 12)  # 9 places, 12 pixels apart
    one, flat, twice = np.zeros((3, 9))
    one[4], twice[[0, 8]] = 9.0, 9.0  # mean 1: (9 - 0) / (9 - 1), at most 1
    half = np.where(np.arange(9) == 3, 4.5, one)  # mean 1.5: (9 - 4.5) / 7.5
    assert peak_confidence(np.stack([one, flat, twice, half]), grid).tolist() == pytest.approx([1, 0, 0, 0.6])
    assert peak_confidence(np.array([[0.0, 1.0, 0.0]]), np.array([[0, 0], [4, 0], [8, 0]])).tolist() == [0]
    assert len(search_grid(32, 2)) == 33**2 and search_grid(5, 2).tolist()[0] == [-4, -4]


@UNTRAINED
def test_errors(tmp_path: Path, scene: tuple) -> None:
    matcher = build(tmp_path)
    for points, text in [
        ([(31, 60)], r"around the point \(31, 60\) .* 176 x 144 .* expected x in 32..144, y in 32..112"),
        ([], r"expected one or more \(x, y\)"),
        ([(1, 2, 3)], r"expected one or more \(x, y\)"),
    ]:
        with pytest.raises(DataError, match=text):
            matcher.match(*scene, points)
    with pytest.raises(DataError, match=r"the point \(60, 60\): no patch of 64 pixels up to radius=4 .* 176 x 144"):
        matcher.match(*scene, [(60, 60)], radius=4, offset=(200, 0))
    with pytest.raises(DataError, match="no patch of 64 pixels"):
        matcher.match_grid(scene[0], scene[1][:40])
    with pytest.raises(ConfigError, match='spectrum = "thermo"; did you mean "thermal"'):
        matcher.match(*scene, [(60, 60)], spectrum="thermo")
    with pytest.raises(ConfigError, match="step=0"):
        matcher.match(*scene, [(60, 60)], step=0)
    with pytest.raises(ConfigError, match="spacing=0"):
        matcher.match_grid(*scene, spacing=0)
    with pytest.raises(BadSampleError, match="float32"):
        matcher.match(scene[0].astype(np.float32), scene[1], [(60, 60)])
    with pytest.raises(DataError, match=r"a pair is \(visible, thermal\)"):
        matcher([scene[0]])
    with pytest.raises(ConfigError, match="needs a model of type PatchMatcher, not Segmentor"):
        MatchingInferencer("crossformer-s_fpn_4xb4-80k_ade20k-512x512")
