"""Pictures of objects: boxes with their class and score, and the outlines of masks."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy import ndarray

from visionpatch.errors import ConfigError
from visionpatch.visualization.segmentation import FONT, INK, MIN_WIDTH, PAPER, side_by_side

GREY = (150, 150, 150)


def draw_objects(
    image: ndarray,
    objects: Mapping[str, Any] | Any,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    opacity: float = 0.5,
    min_score: float = 0.0,
    ignored: Mapping[str, Any] | Any | None = None,
) -> ndarray:
    """Draw boxes, masks, class names and scores over an image, the best score on top.

    Args:
        image: (H, W, 3) uint8, BGR; (H, W) grey is drawn as well. One narrower than 320 pixels is enlarged by a whole
            factor.
        objects: InstanceData or a mapping with ``bboxes`` (n, 4) x1 y1 x2 y2 in pixels of the image, ``labels`` (n,)
            and perhaps ``scores`` (n,), ``masks`` (n, H, W).
        classes, palette: names and (r, g, b) in 0..255 of labels 0, 1, ...; other labels are drawn grey, by number.
        opacity: of the masks, 0 to 1; lines are opaque.
        min_score: objects of a lower score are not drawn.
        ignored: more objects, drawn grey, in brackets and without a mask: crowds.

    Returns:
        (H', W', 3) uint8, BGR.

    Raises:
        ConfigError: `opacity` outside 0..1, fewer colours than classes.
    """
    if not 0 <= opacity <= 1 or len(palette) < len(classes):
        raise ConfigError(
            f"draw_objects: opacity = {opacity} must be in 0..1, and {len(palette)} colours must be at least the "
            f"{len(classes)} classes"
        )
    picture = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image[..., :3].copy()
    factor = max(1, -(-MIN_WIDTH // picture.shape[1]))
    if factor > 1:
        picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    names = [str(name) for name in classes]
    colours = [tuple(int(value) for value in colour[::-1]) for colour in palette]  # BGR
    boxes, labels, scores, masks = _arrays(objects)
    order = [i for i in np.argsort(scores, kind="stable") if not scores[i] < min_score]
    for i in order:
        if masks is not None:
            _blend(picture, masks[i], _of(colours, labels[i], GREY), opacity)
    captions = []
    if ignored is not None:
        for box, label in zip(*_arrays(ignored)[:2]):
            captions.append((box * factor, f"({_of(names, label, str(label))})", GREY))
    for i in order:
        score = "" if np.isnan(scores[i]) else f" {scores[i]:.2f}"
        text = f"{_of(names, labels[i], str(labels[i]))}{score}"
        captions.append((boxes[i] * factor, text, _of(colours, labels[i], GREY)))
    for box, _, colour in captions:
        _outline(picture, box, colour)
    for box, text, colour in captions:  # no line runs through a name
        _caption(picture, box, text, colour)
    return picture


def draw_object_pair(
    image: ndarray,
    truth: Any | None,
    prediction: Any,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    opacity: float = 0.5,
    min_score: float = 0.3,
    ignored: Any | None = None,
) -> ndarray:
    """The predicted objects, with the annotated ones (if there are any) to their left, each with a title."""
    panels = []
    if truth is not None:
        panels.append(("ground truth", draw_objects(image, truth, classes, palette, opacity, ignored=ignored)))
    drawn = draw_objects(image, prediction, classes, palette, opacity, min_score)
    panels.append((f"prediction (score from {min_score:g})" if min_score else "prediction", drawn))
    return side_by_side(panels)


def _arrays(objects: Any) -> tuple[ndarray, ndarray, ndarray, ndarray | None]:
    """Boxes (n, 4), labels (n,), scores (n,), nan without, and masks (n, H, W) or None."""

    def array(name: str) -> ndarray:
        value = objects[name]
        return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)

    labels = array("labels").astype(int).reshape(-1)
    scores = array("scores").astype(float) if "scores" in objects else np.full(len(labels), np.nan)
    boxes = np.nan_to_num(array("bboxes").astype(float).reshape(-1, 4), nan=-1, posinf=1e6, neginf=-1e6)
    return boxes.clip(-1e6, 1e6), labels, scores.reshape(-1), array("masks") if "masks" in objects else None


def _of(values: Sequence[Any], label: int, other: Any) -> Any:
    return values[label] if 0 <= label < len(values) else other


def _blend(picture: ndarray, mask: ndarray, colour: tuple[int, ...], opacity: float) -> None:
    """Lay `colour` over the picture where `mask` (H, W) is set, and draw its border in the colour, darker."""
    spot: ndarray = mask.astype(np.uint8)
    if spot.shape != picture.shape[:2]:
        spot = cv2.resize(spot, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    if not spot.any():
        return
    rows, columns = np.flatnonzero(spot.any(1)), np.flatnonzero(spot.any(0))
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    part, inside = picture[window], spot[window].astype(bool)
    part[inside] = np.rint((1 - opacity) * part[inside] + opacity * np.array(colour)).astype(np.uint8)
    contours, _ = cv2.findContours(spot, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    edge = tuple(int(0.75 * value + 60 * (max(colour) < 90)) for value in colour)
    cv2.drawContours(picture, contours, -1, edge, _thickness(picture), cv2.LINE_AA)


def _outline(picture: ndarray, box: ndarray, colour: tuple[int, ...]) -> None:
    """A line around the box, between white ones where it is dark, so that it is seen on any ground."""
    first, last = (tuple(int(round(value)) for value in corner) for corner in (box[:2], box[2:] - 1))
    thickness = _thickness(picture)
    if max(colour) < 90:
        cv2.rectangle(picture, first, last, PAPER, 2 * thickness + 1)
    cv2.rectangle(picture, first, last, colour, thickness)


def _caption(picture: ndarray, box: ndarray, text: str, colour: tuple[int, ...]) -> None:
    """The text on a plate of the colour, above the box's upper left corner, or inside it at the picture's edge."""
    height, width = picture.shape[:2]
    scale = float(np.clip(width / 45, 10, 20)) / 26
    (long, high), below = cv2.getTextSize(text, FONT, scale, 1)
    plate = high + below + 2
    left = int(np.clip(round(box[0]), 0, max(0, width - long - 4)))
    top = round(box[1]) - plate
    top = int(np.clip(top if top >= 0 else round(box[1]), 0, max(0, height - plate)))
    cv2.rectangle(picture, (left, top), (left + long + 3, top + plate - 1), colour, cv2.FILLED)
    bright = 0.114 * colour[0] + 0.587 * colour[1] + 0.299 * colour[2] > 130
    cv2.putText(picture, text, (left + 2, top + high + 1), FONT, scale, INK if bright else PAPER, 1, cv2.LINE_AA)


def _thickness(picture: ndarray) -> int:
    return max(1, round(max(picture.shape[:2]) / 400))
