"""Pictures of segmentations: colours over the image, outlines, and a legend of the classes present."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy import ndarray

from visionpatch.errors import ConfigError

FONT = cv2.FONT_HERSHEY_SIMPLEX
INK, PAPER = (40, 40, 40), (255, 255, 255)
MIN_WIDTH, MIN_TEXT, MAX_TEXT = 320, 15, 26  # pixels


def draw_segmentation(
    image: ndarray,
    label_map: ndarray,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    opacity: float = 0.5,
    legend: bool = True,
    ignore_index: int = 255,
    background: str | None = "background",
) -> ndarray:
    """Lay the colours of a label map over an image.

    Args:
        image: (H, W, 3) uint8, BGR; (H, W) grey is drawn as well.
        label_map: (H, W) integers; resized without interpolation where its size differs.
        classes, palette: names and (r, g, b) in 0..255 of labels 0, 1, ...
        opacity: of the colours, 0 to 1; outlines are opaque.
        legend: add a white panel below with swatch, name and share of the pixels, largest class first. A picture
            narrower than 320 pixels is enlarged for it by a whole factor.
        ignore_index: pixels of this label, and of labels without a class, stay as they are.
        background: a class of this name is listed but not coloured.

    Returns:
        (H', W', 3) uint8, BGR; H' = H and W' = W without a legend.

    Raises:
        ConfigError: `opacity` outside 0..1, fewer colours than classes.
    """
    if not 0 <= opacity <= 1 or len(palette) < len(classes):
        raise ConfigError(
            f"draw_segmentation: opacity = {opacity} must be in 0..1, and {len(palette)} colours must be "
            f"at least the {len(classes)} classes"
        )
    picture = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image[..., :3].copy()
    labels: ndarray = label_map.astype(np.int32)
    if labels.shape != picture.shape[:2]:
        labels = cv2.resize(labels, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    if legend and picture.shape[1] < MIN_WIDTH:
        factor = -(-MIN_WIDTH // picture.shape[1])
        picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
        labels = labels.repeat(factor, 0).repeat(factor, 1)
    valid = (labels >= 0) & (labels < len(classes)) & (labels != ignore_index)
    plain = [i for i, name in enumerate(classes) if name == background]
    drawn = valid & ~np.isin(labels, plain)
    colours = np.array([tuple(c)[::-1] for c in palette], dtype=np.uint8)  # BGR
    picture = _overlay(picture, labels, drawn, colours, opacity)
    return (
        np.vstack([picture, _legend(labels[valid], classes, colours, plain, picture.shape[1])]) if legend else picture
    )


def draw_pair(
    image: ndarray,
    truth: ndarray | None,
    prediction: ndarray,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    opacity: float = 0.5,
) -> ndarray:
    """The prediction, with the ground truth (if there is one) to its left, each with a title and a legend."""
    panels = [("ground truth", truth)] if truth is not None else []
    return side_by_side(
        [
            (title, draw_segmentation(image, labels, classes, palette, opacity))
            for title, labels in [*panels, ("prediction", prediction)]
        ]
    )


def side_by_side(panels: Sequence[tuple[str, ndarray]]) -> ndarray:
    """Pictures (H, W, 3) from left to right, each under its title."""
    drawn = [np.vstack([_title(title, picture.shape[1]), picture]) for title, picture in panels]
    height, gap = max(p.shape[0] for p in drawn), 8
    padded = [
        cv2.copyMakeBorder(p, 0, height - p.shape[0], 0, gap * (i < len(drawn) - 1), cv2.BORDER_CONSTANT, value=PAPER)
        for i, p in enumerate(drawn)
    ]
    return np.hstack(padded)


def _overlay(picture: ndarray, labels: ndarray, drawn: ndarray, colours: ndarray, opacity: float) -> ndarray:
    """Blend the colours where `drawn`, then draw the border of each class in its own darker colour."""
    layer = colours[np.where(drawn, labels, 0)]
    mixed = cv2.addWeighted(picture, 1 - opacity, layer, opacity, 0)
    picture = np.where(drawn[..., None], mixed, picture)
    thickness = max(1, round(max(picture.shape[:2]) / 500))
    for index in np.unique(labels[drawn]):
        contours, _ = cv2.findContours((labels == index).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        edge = tuple(int(c) for c in (0.75 * colours[index] + 0.25 * 255 * (colours[index].max() < 90)).astype(int))
        cv2.drawContours(picture, contours, -1, edge, thickness, cv2.LINE_AA)
    return picture


def _legend(labels: ndarray, classes: Sequence[str], colours: ndarray, plain: Sequence[int], width: int) -> ndarray:
    """A white panel of `width`: swatch, name, share in percent; as many columns as fit."""
    counts = np.bincount(labels, minlength=len(classes))
    present = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i]]
    rows = [(i, f"{classes[i]}  {_percent(counts[i] / counts.sum())}") for i in present]
    size = int(np.clip(width / 40, MIN_TEXT, MAX_TEXT))
    scale, pad = size / 30, size // 2
    cell = max((cv2.getTextSize(text, FONT, scale, 1)[0][0] for _, text in rows), default=0) + 2 * size + 2 * pad
    columns = max(1, (width - pad) // cell)
    line = round(1.6 * size)
    panel = np.full((-(-len(rows) // columns) * line + pad, width, 3), PAPER, dtype=np.uint8)
    panel[0] = 200
    for place, (index, text) in enumerate(rows):
        x, y = pad + place % columns * cell, pad + place // columns * line
        corner = (x + round(1.4 * size), y + size)
        if index not in plain:
            cv2.rectangle(panel, (x, y), corner, tuple(map(int, colours[index])), cv2.FILLED)
        cv2.rectangle(panel, (x, y), corner, (150, 150, 150), 1)
        cv2.putText(panel, text, (corner[0] + pad, y + round(0.85 * size)), FONT, scale, INK, 1, cv2.LINE_AA)
    return panel


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share >= 0.01 else "<1%"


def _title(text: str, width: int) -> ndarray:
    size = int(np.clip(width / 40, MIN_TEXT, MAX_TEXT))
    bar = np.full((2 * size, width, 3), PAPER, dtype=np.uint8)
    cv2.putText(bar, text, (size // 2, round(1.35 * size)), FONT, size / 26, INK, 1, cv2.LINE_AA)
    return bar
