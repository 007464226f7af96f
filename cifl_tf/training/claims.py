"""The configuration that a training folder, or another folder of results, is of."""

import json
from collections.abc import Mapping
from pathlib import Path

from cifl_tf._former_names import with_present_names
from cifl_tf._version import __version__
from cifl_tf.images.atomic import atomic_path, clear_leftovers
from cifl_tf.training.workers import is_chief

NOT_RECORDED = {"segmentation"}  # by version 0.13.0 and before
CONFIG_FILE = "config.json"


def check_folder(out, config: Mapping) -> None:
    """Compare a configuration with that of a folder, without a change to it.

    Args:
        out: the folder; new, empty, or of the same configuration.
        config: what JSON can hold.

    Raises:
        ValueError: the folder holds something else, or was made with another configuration.
    """
    out = Path(out)
    fields = json.loads(json.dumps(config))
    if not (out / CONFIG_FILE).exists():
        # Hidden names are temporary files of a run that was killed.
        if out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir()):
            raise ValueError(
                f"{out} holds files but no {CONFIG_FILE}: it is not a training folder; "
                "give a new or empty one"
            )
        return
    found = read_config(out)
    # What an older version did not write, it did not do, but for what it did not record.
    differing = [
        name
        for name, value in fields.items()
        if found.get(name) != value and (name in found or (value and name not in NOT_RECORDED))
    ]
    if differing:
        changes = ", ".join(
            f"{name} {found.get(name)!r} there, {fields[name]!r} asked" for name in differing
        )
        raise ValueError(
            f"{out} was made with another configuration ({changes}); "
            "give the same options to go on, or another folder"
        )


def claim_folder(out, config: Mapping) -> None:
    """Write the configuration to a new folder, or compare it with the one that is there.

    Temporary files that a killed run left there are removed. To be called once nothing of the
    configuration can be wrong any more: a folder that is claimed takes no other.

    Args:
        out: the folder; new, empty, or of the same configuration.
        config: what JSON can hold.

    Raises:
        ValueError: as ``check_folder``.
    """
    check_folder(out, config)
    file = Path(out) / CONFIG_FILE
    if not is_chief():
        return
    if not file.exists():
        with atomic_path(file) as temporary:
            text = json.dumps({"version": __version__, **config}, indent=2)
            temporary.write_text(text + "\n")
    clear_leftovers(out)


def read_config(out) -> dict:
    """The configuration of a folder.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    file = Path(out) / CONFIG_FILE
    try:
        config = json.loads(file.read_text())
        if not isinstance(config, dict):
            raise ValueError(f"it holds a {type(config).__name__} instead of names and values")
        return with_present_names(config, model="encoder")
    except OSError as error:
        raise ValueError(f"{out} holds no {CONFIG_FILE}; give a folder of a training") from error
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}); give another folder") from error
