"""What to do with samples that cannot be read: stop, or take another one and write down which."""

import json
import os
import re
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from visionpatch.errors import BadSampleError, ConfigError, DataError
from visionpatch.random_state import mix

try:
    import fcntl
except ImportError:  # no such locks on Windows
    fcntl = None  # type: ignore[assignment]

ATTEMPTS = 100  # samples in a row that may be bad before the dataset as a whole is


def allowed(policy: str) -> int:
    """How many the policy lets pass: 0 for ``"raise"``, n for ``"skip(n)"``."""
    found = re.fullmatch(r"raise|skip\((\d+)\)", policy) if isinstance(policy, str) else None
    if not found:
        raise ConfigError(f'{policy!r} is not a policy: "raise", or "skip(n)" to let n pass')
    return int(found[1] or 0)


class TolerantDataset(Dataset):
    """A dataset in which another sample stands for one that cannot be read; for training only.

    The other sample follows from (seed, epoch, index), so it is the same in every run. Each bad file is written to the
    report once, as a line of JSON; processes and runs that share a report share its count.

    Args:
        dataset: reads keys ``epoch * len(dataset) + index``.
        cap: this many different bad files are let pass, one more is an error.
        report: the file to write.
    """

    takes_epoch_keys = True

    def __init__(self, dataset: Any, cap: int, report: str | Path) -> None:
        self.dataset = dataset
        self.cap = cap
        self.report = Path(report)

    @property
    def seed(self) -> int:
        return self.dataset.seed

    @seed.setter
    def seed(self, value: int) -> None:
        self.dataset.seed = value

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int) -> Any:
        epoch, index = divmod(int(key), len(self))
        for attempt in range(ATTEMPTS):
            try:
                return self.dataset[epoch * len(self) + index]
            except BadSampleError as error:
                self._write_down(error)
            index = mix(self.seed, epoch, index, attempt) % len(self)
        raise DataError(f"{ATTEMPTS} samples in a row cannot be read; see {self.report}")

    def __getattr__(self, name: str) -> Any:
        if name == "dataset":  # not there yet while being unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def _write_down(self, error: BadSampleError) -> None:
        message = str(error)
        path = message.split(": ")[0]
        with open(self.report, "a+", encoding="utf-8") as file:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            known = {json.loads(line)["path"] for line in file if line.strip()}
            if path not in known:
                file.write(json.dumps(dict(path=path, error=message)) + "\n")
                file.flush()
                os.fsync(file.fileno())
        if len(known | {path}) > self.cap:
            raise DataError(
                f"{len(known | {path})} samples cannot be read, more than the {self.cap} that "
                f'train_dataloader.bad_samples = "skip({self.cap})" lets pass; see {self.report}; the last: {message}'
            ) from error
