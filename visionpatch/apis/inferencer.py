"""Predicting pictures with a config and a checkpoint: what every inferencer does."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from numpy import ndarray

from visionpatch.apis.models import get_config, get_model
from visionpatch.datasets.transforms import Compose
from visionpatch.errors import ConfigError
from visionpatch.palette import colour_map
from visionpatch.registry import DATASETS, SCOPE
from visionpatch.structures import DataSample

Picture = str | Path | ndarray


class Inferencer:
    """A model on pictures, read and prepared by the config's test pipeline.

    Args:
        config: a name of `list_models`, a config file or a Config.
        weights: the checkpoint; None warns where anything is to be trained: what an untrained model says is noise.
        device: such as ``"cpu"`` or ``"cuda:0"``; None takes a GPU if there is one.

    Attributes:
        classes, palette: of the checkpoint's dataset, else of the config's, else numbered.
        score_thr: objects of a lower score are not drawn.

    Raises:
        ConfigError: no such config, no such device, or a model for another task.
    """

    heads: tuple[str, ...] = ()  # what the config's model holds one of
    score_thr = 0.3

    def __init__(
        self, config: str | Path | Config, weights: str | Path | None = None, device: str | None = None
    ) -> None:
        self.cfg = config if isinstance(config, Config) else get_config(config)
        self.check(self.cfg)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise ConfigError(f'device = "{device}", but torch sees no GPU; use "cpu"')
        model: Any = get_model(self.cfg, weights, device)
        self.model = model
        if weights is None and any(p.requires_grad for p in model.parameters()):
            warnings.warn(f"{type(self).__name__} without weights: the model is untrained", stacklevel=2)
        self.classes, self.palette = self.names()
        with DefaultScope.overwrite_default_scope(SCOPE):
            self.pipeline = Compose(without_truth(_test_steps(self.cfg)))

    def names(self) -> tuple[Sequence[str], Sequence[Sequence[int]]]:
        """Names and colours of the classes."""
        meta = getattr(self.model, "dataset_meta", None) or _dataset_meta(self.cfg)
        classes = meta.get("classes") or [f"class {i}" for i in range(self.model.num_classes)]
        return classes, meta.get("palette") or colour_map(len(classes))

    def __call__(self, pictures: Picture | Sequence[Picture]) -> list[DataSample]:
        """Predict one picture or several: paths, or arrays (H, W, 3) BGR uint8.

        Returns:
            a DataSample for each, with predictions in pixels of the picture.

        Raises:
            BadSampleError: a picture cannot be read.
        """
        return list(self.stream([pictures] if isinstance(pictures, str | Path | ndarray) else pictures))

    def stream(self, pictures: Sequence[Picture]) -> Iterator[DataSample]:
        """One by one, so that the pictures need not fit in memory together."""
        for index, picture in enumerate(pictures):
            packed: Any = self.pipeline(describe(picture, index))
            with torch.inference_mode():
                yield self.model.test_step(dict(inputs=[packed["inputs"]], data_samples=[packed["data_samples"]]))[0]

    def draw(self, image: ndarray, sample: DataSample, opacity: float = 0.5) -> ndarray:
        """The prediction over its picture (H, W, 3) BGR."""
        raise NotImplementedError

    @classmethod
    def check(cls, cfg: Config) -> None:
        """ConfigError unless the config's model is of this task."""
        if not cls.fits(cfg):
            raise ConfigError(
                f"{cfg.filename}: {cls.__name__} needs a model with {' or '.join(cls.heads)}; this one holds "
                f"{', '.join(cfg.get('model') or {}) or 'nothing'}"
            )

    @classmethod
    def fits(cls, cfg: Config) -> bool:
        """Whether the config's model is of this task."""
        return any((cfg.get("model") or {}).get(head) is not None for head in cls.heads)


def build_inferencer(
    config: str | Path | Config, weights: str | Path | None = None, device: str | None = None
) -> Inferencer:
    """The inferencer for the task of a config's model; arguments as `Inferencer`.

    Raises:
        ConfigError: no inferencer is for this model.
    """
    from visionpatch.apis.detection import DetectionInferencer
    from visionpatch.apis.segmentation import SegmentationInferencer

    cfg = config if isinstance(config, Config) else get_config(config)
    kinds: tuple[type[Inferencer], ...] = (SegmentationInferencer, DetectionInferencer)
    for kind in kinds:
        if kind.fits(cfg):
            return kind(cfg, weights, device)
    heads = ", ".join(head for kind in kinds for head in kind.heads)
    raise ConfigError(
        f"{cfg.filename}: only models with {heads} are drawn; a FewShotSegmentor needs annotated pictures as well: "
        "FewShotInferencer, demo/few_shot_demo.py; a PatchMatcher needs two pictures: MatchingInferencer, "
        "demo/matching_demo.py; an ImageTokenizer or MaskedTokenGenerator: TokenizerInferencer, demo/tokenizer_demo.py"
    )


def describe(picture: Picture, index: int) -> dict[str, Any]:
    """What a pipeline is given of a picture."""
    path = f"array {index}" if isinstance(picture, ndarray) else str(picture)
    given = dict(img=picture) if isinstance(picture, ndarray) else {}
    common = dict(img_id=Path(path).stem, sample_idx=index, seg_fields=[], reduce_zero_label=False)
    return dict(given, img_path=path, seg_path=None, **common)


def _test_steps(cfg: Config) -> list[dict]:
    """The test pipeline."""
    dataset = test_dataset(cfg)
    steps = dataset.get("pipeline") or cfg.get("test_pipeline")
    if not steps:
        raise ConfigError(
            f"{cfg.filename}: test_dataloader.dataset.pipeline is missing; it says how pictures are prepared"
        )
    return list(steps)


def without_truth(steps: Sequence[dict]) -> list[dict]:
    """The steps of a pipeline that read no annotations."""
    return [step for step in steps if not str(step.get("type", "")).endswith(("LoadAnnotations", "SelectClass"))]


def test_dataset(cfg: Config) -> dict:
    """The config's data set to test on, or else to validate on."""
    loader = cfg.get("test_dataloader") or cfg.get("val_dataloader") or {}
    return loader.get("dataset") or {}


def _dataset_meta(cfg: Config) -> dict:
    """Classes and palette as the config's dataset class declares them, without reading data."""
    dataset = test_dataset(cfg)
    kind = DATASETS.get(dataset["type"]) if isinstance(dataset.get("type"), str) else None
    return {**(getattr(kind, "METAINFO", None) or {}), **(dataset.get("metainfo") or {})}
