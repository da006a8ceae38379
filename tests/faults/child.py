"""A training in a process of its own, for what cannot be done to the process of the tests."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from visionpatch.apis import cli


class Child:
    """A forked process that calls `function` as a command-line tool would, its output in a file.

    Args:
        function: what it does.
        output: the file that gets what it prints.
    """

    def __init__(self, function: Callable[[], Any], output: Path) -> None:
        self.output = output
        self.left: int | None = None  # the exit status
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                with open(output, "w") as file:
                    os.dup2(file.fileno(), 1)
                    os.dup2(file.fileno(), 2)
                os.setpgid(0, 0)
                sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                cli.run(function)
            except SystemExit as left:
                status = int(left.code or 0)
            except BaseException as error:
                os.write(2, f"{type(error).__name__}: {error}".encode())
            finally:
                os._exit(status)

    def text(self) -> str:
        return self.output.read_text() if self.output.exists() else ""

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Until it has printed `text`."""
        end = time.monotonic() + seconds
        while text not in self.text():
            if time.monotonic() > end or self._has_left():
                self.kill()
                raise AssertionError(f"{text!r} did not come within {seconds} s: {self.text()[-2000:]}")
            time.sleep(0.005)

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9, and wait."""
        if not self._has_left():
            os.kill(self.pid, signal.SIGKILL)
            self.left = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def status(self, seconds: float = 60) -> int:
        """Its exit status; minus the signal's number where one ended it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._has_left():
                return self.left or 0
            time.sleep(0.01)
        self.kill()
        raise AssertionError(f"still there after {seconds} s: {self.text()[-2000:]}")

    def _has_left(self) -> bool:
        if self.left is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.left = os.waitstatus_to_exitcode(status) if pid else None
        return self.left is not None
