"""The synthetic sample: generated in the format of the IMDb source, then converted."""

from __future__ import annotations

import tempfile
from pathlib import Path

from dataset_converters.base import How, convert
from dataset_converters.imdb import ImdbSource
from dataset_converters.write import load_properties
from recbole_exp3rt.sample.world import make_world, write_world


def make_sample(output_path: Path, k_core: int = 5, how: How | None = None) -> str:
    """Write the sample data set into the folder `output_path`; return printable statistics.

    `how`: see `convert`.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_world(make_world(), Path(folder))
        source, properties = ImdbSource(Path(folder)), load_properties("sample")
        return convert(source, output_path, properties, k_core, how=how)
