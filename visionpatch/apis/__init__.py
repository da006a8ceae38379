"""From Python: list and build models, and run a task's inferencer on pictures."""

from importlib import import_module
from typing import Any

_WHERE = {
    "list_models": "models",
    "get_config": "models",
    "get_model": "models",
    "count_macs": "flops",
    "build_inferencer": "inferencer",
    "DependencyInferencer": "dependency",
    "DetectionInferencer": "detection",
    "FewShotInferencer": "few_shot",
    "MatchingInferencer": "matching",
    "SegmentationInferencer": "segmentation",
    "TokenizerInferencer": "tokenizer",
}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    """Import on first use, so that the tools answer ``--help`` at once."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
