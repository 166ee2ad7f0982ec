"""A wheel installed without a clone works: its settings, prompts and converters travel in it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The contents of a wheel built from a copy of this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    kept = ("recbole_exp3rt", "properties", "dataset_converters")
    for name in kept:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / "tree" / name, ignore=ignored)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "tree")
    tree = str(folder / "tree")
    command = [sys.executable, "-m", "pip", "wheel", tree, "--no-deps", "--quiet"]
    command += ["--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
    (wheel,) = folder.glob("recbole_exp3rt-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_settings_prompts_and_converters_are_in_the_wheel(installed):
    for name in ("overall.yaml", "model/EXP3RT.yaml", "model/Bias.yaml", "dataset/sample.yaml"):
        assert (installed / "recbole_exp3rt" / "properties" / name).is_file()
    assert (installed / "recbole_exp3rt" / "prompts" / "rating.txt").is_file()
    assert (installed / "dataset_converters" / "__main__.py").is_file()
    assert (installed / "dataset_converters" / "table.yaml").is_file()
    assert (installed / "recbole_exp3rt" / "__init__.pyi").is_file(), "the public names"
    packages = {path.name for path in installed.iterdir() if path.suffix != ".dist-info"}
    assert packages == {"recbole_exp3rt", "dataset_converters"}
    entries = next(installed.glob("*.dist-info/entry_points.txt")).read_text()
    assert "exp3rt = recbole_exp3rt.cli.main:main" in entries
    assert "exp3rt-convert = dataset_converters.__main__:main" in entries


def test_the_wheel_runs_far_from_the_clone(installed, tmp_path):
    code = (
        "import sys, recbole_exp3rt;"
        "from recbole_exp3rt.quick_start.quick_start import main;"
        "print(recbole_exp3rt.__file__);"
        "sys.exit(main(['--model=Bias', '--dataset=sample', '--use_gpu=False']))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert str(installed) in run.stdout and "Bias" in run.stdout
    assert (tmp_path / "dataset" / "sample" / "sample.inter").is_file()
