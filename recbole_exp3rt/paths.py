"""Where the settings files lie: inside the package in a wheel, at the top level in a clone."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def properties_dir() -> Path:
    """The folder with `overall.yaml`, `model/` and `dataset/`.

    Raises: FileNotFoundError if the installation is broken.
    """
    places = (PACKAGE / "properties", PACKAGE.parent / "properties")
    for place in places:
        if (place / "overall.yaml").is_file():
            return place
    raise FileNotFoundError(
        f"no overall.yaml in {' or '.join(map(str, places))}; install recbole-exp3rt again"
    )
