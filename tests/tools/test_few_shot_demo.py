"""demo/few_shot_demo.py: support from a folder, from shapes on a picture, from a saved file."""

from pathlib import Path

import cv2
import pytest
from apis.test_few_shot import CONFIG, picture
from tool import run

from visionpatch.apis import cli


def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    for name in ("images", "masks", "queries"):
        Path("set", name).mkdir(parents=True)
    config = tmp_path / "tiny.py"
    config.write_text(CONFIG)
    image, mask = picture(4)
    cv2.imwrite("set/images/a.jpg", image)
    cv2.imwrite("set/masks/a.png", mask)
    cv2.imwrite("set/queries/q.png", picture(30)[0])
    base = ["demo/few_shot_demo.py", "set/queries", "--config", config, "--device", "cpu"]
    assert run(*base, "--support", "set", "--out-dir", "one", "--save-support", "s.safetensors") == 0
    assert Path("one/q.png").is_file() and Path("s.safetensors").is_file()
    assert run(*base, "--image", "set/images/a.jpg", "--box", 4, 10, 27, 33, "--out-dir", "two") == 0
    assert Path("two/q.png").is_file()
    capsys.readouterr()
    for flags, text in [
        (["--image", "set/images/a.jpg"], "--image needs either --mask, or --box and --polygon, for its class"),
        (["--support", "set", "--mask", "set/masks/a.png"], "--mask, --box and --polygon go with --image"),
        (["--support", "."], ".: no folders images and masks in it"),
        (["--support-file", "set/masks/a.png"], "a.png"),
    ]:
        assert run(*base, *flags) == 2
        assert text in capsys.readouterr().err
    Path("set/masks/a.png").unlink()
    assert run(*base, "--support", "set") == 2
    assert "no mask set/masks/a.png; every picture needs one" in capsys.readouterr().err
    assert cli.find_pictures(Path("set/queries"))[0] == [Path("set/queries/q.png")]
