import cv2
import numpy as np
import pytest

from visionpatch.datasets.transforms import PhotoMetricDistortion
from visionpatch.errors import ConfigError

IMAGE = cv2.resize(np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8), (64, 48))


def by_definition(image):
    """Brightness, contrast, saturation, hue, contrast on whole images, one step after the other."""

    def linear(values, alpha=1.0, beta=0.0):
        return np.clip(values.astype(np.float32) * np.float32(alpha) + np.float32(beta), 0, 255).astype(np.uint8)

    if np.random.randint(2):
        image = linear(image, beta=np.random.uniform(-32, 32))
    first = np.random.randint(2)
    if first == 1 and np.random.randint(2):
        image = linear(image, alpha=np.random.uniform(0.5, 1.5))
    if np.random.randint(2):
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        hsv[..., 1] = linear(hsv[..., 1], alpha=np.random.uniform(0.5, 1.5))
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if np.random.randint(2):
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + np.random.randint(-18, 18)) % 180
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if first == 0 and np.random.randint(2):
        image = linear(image, alpha=np.random.uniform(0.5, 1.5))
    return image


def test_equals_the_steps_on_whole_images():
    """Equal but for the rounding of one conversion to HSV and back, which is saved where both are drawn."""
    exact = 0
    for seed in range(60):
        np.random.seed(seed)
        expected = by_definition(IMAGE)
        np.random.seed(seed)
        image = PhotoMetricDistortion()(dict(img=IMAGE))["img"]
        difference = np.abs(image.astype(int) - expected)
        assert difference.mean() < 2.0, seed
        exact += int(difference.max() == 0)
    assert exact >= 40


def test_input_is_not_written_to():
    before = IMAGE.copy()
    for seed in range(10):
        np.random.seed(seed)
        PhotoMetricDistortion()(dict(img=IMAGE))
    assert np.array_equal(IMAGE, before)


def test_16_bit_is_refused():
    with pytest.raises(ConfigError, match=r"8-bit.*deep\.png.*uint16"):
        PhotoMetricDistortion()(dict(img=IMAGE.astype(np.uint16), img_path="deep.png"))


def test_wrong_range():
    with pytest.raises(ConfigError, match="contrast_range"):
        PhotoMetricDistortion(contrast_range=(1.5, 0.5))
