"""From patches of two spectra to two normalised batches, on the model's device."""

from collections.abc import Mapping, Sequence

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from visionpatch.errors import BadSampleError, ConfigError, nearest
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample

NORMS = ("standardize", "unit")
WHITE = {torch.uint8: 255.0, torch.uint16: 65535.0}
GREY = (0.114, 0.587, 0.299)  # weights of blue, green and red, ITU-R BT.601
EPS = 1e-6
SPECTRA = ("visible", "thermal")


@MODELS.register_module()
class PatchPairPreprocessor(BaseDataPreprocessor):
    """Makes patches grey, normalises each by itself, and stacks those of each spectrum as (B, 1, size, size) float32.

    Patches of 8 and of 16 bits may be mixed, within a pair and within a batch: they keep their depth up to here.

    Args:
        input_norm: "standardize": (x - mean) / (standard deviation + 1e-6) of the patch, whatever its depth; "unit":
            x / 255, or x / 65535 of 16-bit patches, so sensors that use fewer bits look dark.
        size: side of a patch.

    Raises:
        ConfigError: an unknown `input_norm`, or a size below 1.
        BadSampleError: a spectrum is missing, a patch has another size or other than 8 or 16 bits, or there are not as
            many visible patches as thermal ones.
    """

    def __init__(self, input_norm: str = "standardize", size: int = 64) -> None:
        super().__init__()
        if input_norm not in NORMS:
            raise ConfigError(f'PatchPairPreprocessor: input_norm = "{input_norm}"{nearest(str(input_norm), NORMS)}')
        if type(size) is not int or size < 1:
            raise ConfigError(f"PatchPairPreprocessor: size is a positive integer, not {size!r}")
        self.input_norm, self.size = input_norm, size
        self.register_buffer("grey", torch.tensor(GREY).view(3, 1, 1), False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """`inputs`: dict(visible=..., thermal=...), each a list of (C, h, w) or a batch; C is 1 or 3 (BGR).

        Returns the dict with both as batches (B, 1, size, size).
        """
        data = self.cast_data(data)
        inputs, samples = data["inputs"], data.get("data_samples")
        if not isinstance(inputs, Mapping) or any(name not in inputs for name in SPECTRA):
            given = ", ".join(map(str, inputs)) if isinstance(inputs, Mapping) else type(inputs).__name__
            raise BadSampleError(f"a pair is inputs=dict(visible=..., thermal=...); given: {given}")
        counts = [len(inputs[name]) for name in SPECTRA]
        if counts[0] != counts[1] or not counts[0]:
            raise BadSampleError(f"{counts[0]} visible and {counts[1]} thermal patches; each pair has one of both")
        return {**data, "inputs": {name: self._batch(name, inputs[name], samples) for name in SPECTRA}}

    def _batch(self, spectrum: str, patches: Sequence[Tensor] | Tensor, samples: list[DataSample] | None) -> Tensor:
        """Patches of one spectrum as (B, 1, size, size)."""
        for number, patch in enumerate(patches):
            if patch.ndim != 3 or patch.shape[0] not in (1, 3) or patch.shape[1:] != (self.size, self.size):
                raise BadSampleError(
                    f"{_where(samples, number)}: {spectrum} patch of shape {tuple(patch.shape)}, expected (1 or 3, "
                    f"{self.size}, {self.size}); set data_preprocessor.size and LoadPatchPair's size alike"
                )
            if patch.dtype not in WHITE:
                raise BadSampleError(
                    f"{_where(samples, number)}: {spectrum} patch of {patch.dtype}, expected uint8 or uint16"
                )
        return self.normalise(patches)

    def normalise(self, patches: Sequence[Tensor] | Tensor) -> Tensor:
        """Patches or whole pictures (C, h, w) of one size, C = 1 or 3 (BGR), each by itself: (N, 1, h, w) float32."""
        batch = torch.stack([self._grey(patch) for patch in patches])
        if self.input_norm == "standardize":
            mean, spread = batch.mean((1, 2, 3), keepdim=True), batch.std((1, 2, 3), correction=0, keepdim=True)
            return (batch - mean) / (spread + EPS)
        return batch

    def _grey(self, patch: Tensor) -> Tensor:
        """(1, h, w) float32, on the scale 0..1 for "unit", otherwise on its own."""
        white = WHITE[patch.dtype] if self.input_norm == "unit" else 1.0
        patch = patch.float() / white
        return patch if len(patch) == 1 else (patch * self.grey).sum(0, keepdim=True)


def _where(samples: list[DataSample] | None, number: int) -> str:
    return samples[number].where() if samples else f"pair {number}"
