"""Where the points of one picture lie in a picture of another spectrum.

Letters: n points, m places of a search window, r of them in a row; H, W sides of a picture.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from numpy import ndarray
from torch import Tensor

from visionpatch.apis.inferencer import Inferencer, Picture
from visionpatch.datasets.pair_folder import read_grey
from visionpatch.datasets.patch_centres import eight_bits
from visionpatch.errors import BadSampleError, ConfigError, DataError, nearest
from visionpatch.registry import INFERENCERS
from visionpatch.structures import DataSample
from visionpatch.visualization.matching import draw_matches, draw_point_match

SPECTRA = ("visible", "thermal")
RIVAL = 8  # pixels from the peak at which another maximum is another place
CHUNK = 256  # windows that are encoded together
PAIRS = {"cpu": 32}  # that are compared together: so few stay in a processor's cache
MOST_PAIRS = 1024  # on other devices

Points = Sequence[Sequence[float]] | ndarray
Maps = tuple[Tensor, ...]


@dataclass(frozen=True)
class PointMatches:
    """Of n points of `picture`, searched in `other`.

    Attributes:
        picture, other: (H, W) grey, uint8 or uint16. size: side of a patch.
        points, places: (n, 2) int64 x, y of the points and of the peaks.
        scores: (n,) of the peaks: a probability where the method gives one, otherwise any number.
        confidence: (n,) in 0..1, see `peak_confidence`.
        maps: (n, r, r) float32, the scores of all places as the head gives them (logits where it has a probability);
            nan where the patch would not lie in `other`.
        corners: (n, 2) x, y in `other` of the maps' first values. step: pixels between two values.
    """

    picture: ndarray
    other: ndarray
    size: int
    points: ndarray
    places: ndarray
    scores: ndarray
    confidence: ndarray
    maps: ndarray
    corners: ndarray
    step: int
    titles: Sequence[str] = SPECTRA

    def draw(self, index: int = 0) -> ndarray:
        """Point, place and score map of one of the points side by side, (H', W', 3) BGR."""
        images = eight_bits(self.picture), eight_bits(self.other)
        point, place, corner = self.points[index], self.places[index], self.corners[index]
        return draw_point_match(*images, point, place, self.maps[index], corner, self.step, self.size, self.titles)


@dataclass(frozen=True)
class GridMatches:
    """Of the n points of a grid over `picture`; attributes as `PointMatches`.

    Attributes:
        kept: (n,) bool, whether the search back from the place ends at the point.
    """

    picture: ndarray
    other: ndarray
    points: ndarray
    places: ndarray
    scores: ndarray
    confidence: ndarray
    kept: ndarray
    titles: Sequence[str] = SPECTRA

    def inlier_rate(self, shift: Sequence[float] = (0, 0), tolerance: float = 4.0, checked: bool = True) -> float:
        """The share of matches no more than `tolerance` pixels from their point moved by the true `shift` (x, y).

        Of the kept ones, or of all where not `checked`; nan where there is none.
        """
        far = np.hypot(*(self.places - self.points - np.asarray(shift, np.float64)).T)
        right = (far <= tolerance)[self.kept if checked else slice(None)]
        return float(right.mean()) if len(right) else float("nan")

    def draw(self) -> ndarray:
        """Both pictures with a line for each match, (H', W', 3) BGR."""
        images = eight_bits(self.picture), eight_bits(self.other)
        return draw_matches(*images, self.points, self.places, self.kept, self.titles)


@INFERENCERS.register_module()
class MatchingInferencer(Inferencer):
    """``MatchingInferencer(config, weights).match(visible, thermal, [(120, 80)])`` by any `PatchMatcher`.

    A window is encoded once, however many it is compared with. Where a window's maps can be cut from those of the whole
    picture (`exact`), the picture is encoded once for all windows on a grid. That is so for "unit" patches with
    `PatchEncoder` "aguilera", which pads nothing, and, with nothing to encode, without backbone. All others pad or
    normalise over a window, and "standardize" is of each window by itself: there `share=True` saves the same work and
    gives other scores, as padding and norms are those of the picture.

    Arguments and errors are those of `Inferencer`. Called with a list of pairs (visible, thermal) of patches, it gives
    a DataSample with `pred_score` for each.

    Attributes:
        size: side of a patch in pixels. exact: see above.
    """

    def __init__(self, config: Any, weights: Any = None, device: str | None = None) -> None:
        super().__init__(config, weights, device)
        self.prepare: Any = self.model.data_preprocessor
        self.size: int = self.prepare.size
        self.exact: bool = self.model.exact_windows and self.prepare.input_norm == "unit"

    @classmethod
    def fits(cls, cfg: Config) -> bool:
        return (cfg.get("model") or {}).get("type") == "PatchMatcher"

    @classmethod
    def check(cls, cfg: Config) -> None:
        if not cls.fits(cfg):
            kind = (cfg.get("model") or {}).get("type")
            raise ConfigError(f"{cfg.filename}: {cls.__name__} needs a model of type PatchMatcher, not {kind}")

    def names(self) -> tuple[Sequence[str], Sequence[Sequence[int]]]:
        return ("different", "same"), ((230, 60, 90), (60, 200, 110))

    def stream(self, pictures: Sequence[Any]) -> Iterator[DataSample]:
        for pair in pictures:
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                raise DataError("a pair is (visible, thermal), two patches; match() takes whole pictures")
            inputs = {name: [torch.from_numpy(read_picture(x))[None]] for name, x in zip(SPECTRA, pair)}
            with torch.inference_mode():
                yield self.model.test_step(dict(inputs=inputs, data_samples=[DataSample()]))[0]

    def match(
        self,
        picture: Picture,
        other: Picture,
        points: Points,
        *,
        spectrum: str = "visible",
        radius: int = 32,
        step: int = 2,
        offset: Sequence[int] = (0, 0),
        share: bool | None = None,
    ) -> PointMatches:
        """Search points of `picture` in `other`: at each place the score of its patch with that of the point.

        Args:
            picture, other: paths, or arrays (H, W) or (H, W, 3) BGR, uint8 or uint16; they may differ in size.
            points: (n, 2) x, y in pixels; the patch of `size` pixels around each must lie in the picture.
            spectrum: of `picture`, "visible" or "thermal"; `other` is of the other one.
            radius, step: places lie every `step` pixels up to `radius` in x and in y.
            offset: (x, y) from a point to the middle of its search window.
            share: encode whole pictures where windows lie on a grid. None: where that is `exact`.

        Raises:
            BadSampleError: a picture cannot be read. DataError: a point whose patch is not in the picture, or whose
            search window has no place in the other. ConfigError: an argument out of range.
        """
        first, second = read_picture(picture), read_picture(other)
        chosen = self._points(points, first.shape)
        grid = search_grid(radius, step)
        places = chosen[:, None] + np.asarray(offset, np.int64) + grid  # (n, m, 2)
        found = self._scores(first, second, spectrum, chosen, places, share)
        if np.isnan(found).all(1).any():
            x, y = chosen[np.isnan(found).all(1)][0]
            raise DataError(
                f"the point ({x}, {y}): no patch of {self.size} pixels up to radius={radius} around it, moved by "
                f"offset={tuple(offset)}, lies in the other picture of {second.shape[1]} x {second.shape[0]} (width x "
                "height)"
            )
        best = np.nanargmax(found, 1)
        side = round(len(grid) ** 0.5)
        return PointMatches(
            first,
            second,
            self.size,
            chosen,
            places[np.arange(len(best)), best],
            self._as_scores(found[np.arange(len(best)), best]),
            peak_confidence(found, grid),
            found.reshape(-1, side, side),
            places[:, 0],
            step,
            SPECTRA if spectrum == "visible" else SPECTRA[::-1],
        )

    def match_grid(
        self,
        picture: Picture,
        other: Picture,
        *,
        spacing: int = 16,
        spectrum: str = "visible",
        radius: int = 16,
        step: int = 4,
        offset: Sequence[int] = (0, 0),
        tolerance: float = 4.0,
        share: bool | None = None,
    ) -> GridMatches:
        """Search points every `spacing` pixels of `picture` in `other`, and from the places found back in `picture`.

        Args:
            spacing: a multiple of `step` lets neighbouring points share their windows.
            tolerance: a match is kept if the search back ends within so many pixels of the point.
            picture, other, spectrum, radius, step, offset, share: as `match`. Points without any place are left out.

        Raises:
            As `match`; DataError: no point fits.
        """
        first, second = read_picture(picture), read_picture(other)
        if spacing < 1 or tolerance < 0:
            raise ConfigError(f"spacing={spacing} must be 1 or more, tolerance={tolerance} 0 or more")
        grid, move, half = search_grid(radius, step), np.asarray(offset, np.int64), self.size // 2
        axes = [np.arange(half, side - half + 1, spacing) for side in first.shape[::-1]]
        points = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)
        fits = inside(points[:, None] + move + grid, second.shape, half).any(1)
        points = points[fits]
        if not len(points):
            raise DataError(f"no patch of {self.size} pixels of {first.shape} has a place in {second.shape}")
        found = self._scores(first, second, spectrum, points, points[:, None] + move + grid, share)
        places = points + move + grid[np.nanargmax(found, 1)]
        reverse = SPECTRA[1 - SPECTRA.index(spectrum)]
        back = self._scores(second, first, reverse, places, places[:, None] - move + grid, share)
        returned = places - move + grid[np.nanargmax(back, 1)]
        kept = np.hypot(*(returned - points).T) <= tolerance
        scores = self._as_scores(np.nanmax(found, 1))
        titles = (spectrum, reverse)
        return GridMatches(first, second, points, places, scores, peak_confidence(found, grid), kept, titles)

    def inlier_rate(
        self, visible: Picture, thermal: Picture, shift: Sequence[int] = (0, 0), tolerance: float = 4.0, **search: Any
    ) -> float:
        """Move the thermal picture of an aligned pair by `shift` (x, y) and measure `GridMatches.inlier_rate`.

        What the move leaves free is the mirrored border. `search`: arguments of `match_grid`.
        """
        moved = moved_by(read_picture(thermal), shift)
        return self.match_grid(visible, moved, **search).inlier_rate(shift, tolerance)

    def _points(self, points: Points, shape: Sequence[int]) -> ndarray:
        """The points as (n, 2) int64, checked."""
        chosen = np.rint(np.asarray(points, np.float64)).astype(np.int64)
        if chosen.ndim != 2 or chosen.shape[1] != 2 or not len(chosen):
            raise DataError(f"points of shape {chosen.shape}; expected one or more (x, y): (n, 2)")
        wrong = chosen[~inside(chosen, shape, self.size // 2)]
        if len(wrong):
            half = self.size // 2
            raise DataError(
                f"the patch of {self.size} pixels around the point ({wrong[0][0]}, {wrong[0][1]}) is not inside the "
                f"picture of {shape[1]} x {shape[0]} (width x height); expected x in {half}..{shape[1] - half}, y in "
                f"{half}..{shape[0] - half}"
            )
        return chosen

    @torch.inference_mode()
    def _scores(
        self, first: ndarray, second: ndarray, spectrum: str, points: ndarray, places: ndarray, share: bool | None
    ) -> ndarray:
        """Of points (n, 2) in `first` with places (n, m, 2) in `second`: (n, m) float32, nan outside."""
        if spectrum not in SPECTRA:
            raise ConfigError(f'spectrum = "{spectrum}"{nearest(str(spectrum), SPECTRA)}')
        reverse = spectrum == "thermal"
        scores = np.full(places.shape[:2], np.nan, np.float32)
        valid = inside(places, second.shape, self.size // 2)
        if not valid.any():
            return scores
        share = self.exact if share is None else share
        own, own_index = np.unique(points, axis=0, return_inverse=True)
        others, other_index = np.unique(places[valid], axis=0, return_inverse=True)
        names = SPECTRA[::-1] if reverse else SPECTRA
        maps = self._maps(first, own, names[0], share), self._maps(second, others, names[1], share)
        indices = own_index.reshape(-1)[np.nonzero(valid)[0]], other_index.reshape(-1)  # of each pair
        parts = []
        chunk = PAIRS.get(maps[0][0].device.type, MOST_PAIRS)
        for start in range(0, len(indices[0]), chunk):
            pair = [taken(one, index[start : start + chunk]) for one, index in zip(maps, indices)]
            visible, thermal = pair[::-1] if reverse else pair
            parts.append(self.model.compare(visible, thermal).float().cpu())
        scores[valid] = torch.cat(parts).numpy()
        return scores

    def _maps(self, image: ndarray, centres: ndarray, spectrum: str, share: bool) -> Maps:
        """Maps of the patches around (N, 2) centres of a picture."""
        corners = torch.from_numpy(centres - self.size // 2)
        picture = torch.from_numpy(image)[None].to(self.prepare.device)  # (1, H, W)
        if share:
            whole = self.prepare.normalise(picture[None])[0]
            return self.model.encode_windows(whole, corners, spectrum, self.size, share=True)
        parts = []
        for some in corners.split(CHUNK):
            windows = [picture[:, y : y + self.size, x : x + self.size] for x, y in some.tolist()]
            parts.append(self.model.encode(self.prepare.normalise(windows), spectrum))
        return tuple(torch.cat(level) for level in zip(*parts))

    def _as_scores(self, found: ndarray) -> ndarray:
        """Scores of the head as its users see them: probabilities where it has them."""
        found = found.astype(np.float64)
        return 1 / (1 + np.exp(-found)) if self.model.head.probability else found


def peak_confidence(scores: ndarray, grid: ndarray) -> ndarray:
    """How far the best score of a map stands out: (n, m) scores at grid (m, 2) -> (n,) in 0..1.

    (peak - rival) / (peak - mean), the rival being the highest score more than 8 pixels from the peak: 0 where another
    place is as good, 1 where none is better than the mean. Also 0 where the window is too small for a rival.
    """
    confidence = np.zeros(len(scores))
    for index, row in enumerate(scores.astype(np.float64)):
        best = int(np.nanargmax(row))
        rivals = row[(np.hypot(*(grid - grid[best]).T) > RIVAL) & ~np.isnan(row)]
        height = row[best] - np.nanmean(row)
        if len(rivals) and height > 0:
            confidence[index] = min(1.0, (row[best] - rivals.max()) / height)
    return confidence


def search_grid(radius: int, step: int) -> ndarray:
    """Moves (m, 2) x, y, multiples of `step` up to `radius`, row by row.

    Raises:
        ConfigError: a negative radius, a step below 1.
    """
    if radius < 0 or step < 1:
        raise ConfigError(f"radius={radius} must be 0 or more, step={step} 1 or more")
    axis = step * np.arange(-(radius // step), radius // step + 1)
    return np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)


def inside(centres: ndarray, shape: Sequence[int], half: int) -> ndarray:
    """Whether the patches around centres (..., 2) x, y lie in a picture of `shape` (H, W): (...) bool."""
    most = np.array([shape[1] - half, shape[0] - half])
    return np.asarray(((centres >= half) & (centres <= most)).all(-1))


def taken(maps: Maps, index: ndarray) -> Maps:
    """Those of the windows `index`."""
    return tuple(x[torch.from_numpy(index).to(x.device)] for x in maps)


def moved_by(image: ndarray, shift: Sequence[int]) -> ndarray:
    """The picture (H, W) with its content moved by (x, y) pixels; mirrored where there is none."""
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float64)
    return cv2.warpAffine(image, matrix, image.shape[1::-1], flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101)


def read_picture(picture: Picture) -> ndarray:
    """A path or an array (H, W) or (H, W, 3) BGR as (H, W) grey, uint8 or uint16.

    Raises:
        BadSampleError: it cannot be read, or is another kind of array.
    """
    if not isinstance(picture, ndarray):
        return read_grey(str(picture))
    if picture.dtype not in (np.uint8, np.uint16) or picture.ndim not in (2, 3) or picture.shape[2:] not in ((), (3,)):
        raise BadSampleError(
            f"an array of shape {picture.shape} and type {picture.dtype}; expected (H, W) or (H, W, 3), uint8 or uint16"
        )
    grey: ndarray = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    return np.array(grey)  # a copy that can be written to, as torch wants it
