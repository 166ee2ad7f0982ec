"""The first file of a model from the Hugging Face hub, without long waits where there is none."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from transformers.utils.hub import cached_file


def config_file(source: str) -> Path:
    """`config.json` of a folder or a hub id.

    The hub is asked once whether it answers: where it is out of reach, the library would try six
    times, with pauses of 23 seconds in all, before it says so.

    Raises: OSError if there is none, on this machine or on the hub.
    """
    reached = True
    if not Path(source).is_dir():
        try:
            get_hf_file_metadata(hf_hub_url(source, "config.json"))
        except (HfHubHTTPError, HFValidationError):
            pass  # an answer; transformers says what it means
        except Exception:  # of many kinds
            reached = False
    return Path(str(cached_file(source, "config.json", local_files_only=not reached)))
