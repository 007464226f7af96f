"""The files of a derivative dataset as a whole, which all shards of a cohort share."""

import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from cifl_tf._version import __version__
from cifl_tf.cli.run_report import Request, settings
from cifl_tf.images.atomic import atomic_path, locked

DESCRIPTION_FILE, IGNORE_FILE, README_FILE = "dataset_description.json", ".bidsignore", "README.md"
BIDS_VERSION = "1.10.0"
SOURCE = "source"  # stands for the dataset of the scans in BIDS URIs
# What is beside the files that BIDS names: records, reports and pictures, features, and transforms.
IGNORED = (
    *("run.json", "report.html", "figures", "cohort.tsv", "cohort.json"),
    *("*_features.*", "*_xfm.*", "*_jacobian.*"),
)


def bids_uri(path: str) -> str:
    """The BIDS URI of a file of the dataset of the scans."""
    return f"bids:{SOURCE}:{quote(path)}"


def claim_dataset(out: Path, bids: Path, about: str, request: Request, write: bool = True) -> None:
    """Write what describes a dataset, or see that it describes the same.

    Args:
        out: the dataset to write.
        bids: the dataset of the scans.
        about: the results, in words.
        request: what the command was asked for.
        write: the description, where it differs in the version or may be overwritten.

    Raises:
        ValueError: the folder holds another dataset, or one that was made with other options.
    """
    if out.exists() and bids.resolve() == out.resolve():
        raise ValueError(f"{out} is the dataset of the scans; give another OUT_DIR")
    file = out / DESCRIPTION_FILE
    origin = bids.resolve().as_uri()
    made_by = {
        "Name": "cifl_tf",
        "Version": __version__,
        "Description": in_words(request.command, settings(request.options)),
    }
    content = {
        "Name": f"{about} of {bids.resolve().name}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [made_by],
        "SourceDatasets": [{"URL": origin}],
        "DatasetLinks": {SOURCE: origin},
    }
    with locked(out):
        there = _description(file)
        if there == content:
            return
        if there is not None and not (request.overwrite and write):
            _check_same(out, there, content)
        if not write:
            return
        texts = {
            IGNORE_FILE: "".join(f"{pattern}\n" for pattern in IGNORED),
            README_FILE: _readme(about, made_by),
            DESCRIPTION_FILE: json.dumps(content, indent=2, ensure_ascii=False) + "\n",
        }
        for name, text in texts.items():
            if name == DESCRIPTION_FILE or request.overwrite or not (out / name).exists():
                with atomic_path(out / name) as temporary:
                    temporary.write_text(text, encoding="utf-8")


def in_words(command: str, options: Mapping) -> str:
    """A command and the options that were chosen, by name, in one line."""
    given = sorted((name, value) for name, value in options.items() if value is not None)
    chosen = [f"{name} {value}" for name, value in given if value is not False]
    return f"cifl {command}" + (f" with {', '.join(chosen)}" if chosen else "")


def _description(file):
    """What is in a dataset_description.json; None where there is none."""
    try:
        return json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(
            f"{file} is no JSON ({error}); mend it, or give another OUT_DIR"
        ) from error


def _check_same(out, there, content):
    """Refuse a dataset that another program, other options or other scans made."""
    mine: dict = content["GeneratedBy"][0]
    other: dict = {}
    if isinstance(there, dict):
        made_by = there.get("GeneratedBy")
        first = made_by[0] if isinstance(made_by, list) and made_by else made_by
        other = first if isinstance(first, dict) else {}
    if other.get("Name") != mine["Name"]:
        made = f"is a dataset of {other.get('Name') or 'another program'}"
    elif other.get("Description") != mine["Description"]:
        made = f"was made by `{other.get('Description')}`, not `{mine['Description']}`"
    elif there.get("DatasetLinks") != content["DatasetLinks"]:
        made = f"was made from {there.get('DatasetLinks')}"
    else:
        return  # of another version
    raise ValueError(f"{out} {made}; give another OUT_DIR, or --overwrite to make it anew")


def _readme(about, made_by):
    return (
        f"# {about}\n\nMade by cifl_tf {made_by['Version']}: {made_by['Description']}.\n\n"
        "Each `sub-*/report.html` shows the results of a subject, and `sub-*/run.json` holds "
        "versions,\noptions, and what became of every scan. For research, not for clinical use.\n"
    )
