"""Many pairs of scans to register: those of a CSV file, or of a folder and one fixed image."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cifl_tf._notes import listed, note
from cifl_tf.cli.registration_run import registration_entry
from cifl_tf.cli.run_report import Entry
from cifl_tf.images.atomic import expanded
from cifl_tf.images.file_names import stem_of

ROLES = ("moving", "fixed", "labels", "initial", "moving mask", "fixed mask")
# What belongs to one moving image, and not to all of a folder.
OF_ONE = {"labels": "--labels", "moving mask": "--moving-mask"}
COLUMNS = (*(role.replace(" ", "_") for role in ROLES), "name")


def table_entries(file: Path, shared: Mapping[str, Path], with_matrix: bool) -> dict[str, Entry]:
    """The pairs of a CSV file, by their names.

    Args:
        file: its paths lead from its own folder.
        shared: files of all pairs, by their roles; those of the table come first.
        with_matrix: whether a stage finds a matrix.

    Raises:
        ValueError: the file is no table of pairs, or a name is there twice.
        FileNotFoundError: there is no such file.
    """
    from cifl_tf.registration.chain import read_table

    table = read_table(file)
    missing = [role for role in ROLES[:2] if role not in table]
    if missing or table.empty:
        raise ValueError(
            f"{file} has {len(table)} rows with the columns {', '.join(table)}; give the columns "
            "moving and fixed, and a row for each pair"
        )
    named = [column for column in table if not column.startswith("Unnamed: ")]
    unused = [column for column in named if column not in COLUMNS]
    if unused:
        known = ", ".join(COLUMNS)
        note(f"{file} has columns that are not used: {listed(unused)}; known are {known}")
    found: dict[str, Entry] = {}
    for row in table.to_dict("records"):
        cells = {role: row.get(column, "") for column, role in zip(COLUMNS, ROLES, strict=False)}
        given = {role: file.parent / expanded(cell) for role, cell in cells.items() if cell}
        unnamed = [role for role in ROLES[:2] if role not in given]
        if unnamed:
            raise ValueError(f"row {len(found) + 1} of {file} has no {unnamed[0]} image; name one")
        files = {**shared, **given}
        name = row.get("name") or "_to_".join(stem_of(files[role]) for role in ROLES[:2])
        if name in found:
            raise ValueError(f"{file} has two pairs {name!r}; give others in the column name")
        if Path(name).name != name:
            raise ValueError(f"{file} has a pair {name!r}; give the name of a folder, without /")
        found[name] = registration_entry(files, with_matrix or "initial" in files, name)
    for role in OF_ONE:
        if role in shared:
            taken = os.path.abspath(shared[role])
            of = {one.input["moving"] for one in found.values() if one.input.get(role) == taken}
            if len(of) > 1:
                raise ValueError(_of_one(role, f"{len(of)} in {file} would take it"))
    return found


def folder_entries(
    folder: Path, shared: Mapping[str, Path], with_matrix: bool, only: Sequence[str] = ()
) -> dict[str, Entry]:
    """The scans of a folder, each to be warped to one fixed image, by their names.

    Args:
        folder: see ``scans_in``.
        shared: the fixed image, and other files of all pairs, by their roles.
        with_matrix: whether a stage finds a matrix.
        only: endings of the names of those that are wanted, such as "T1w"; none for all.

    Raises:
        ValueError: there are no scans, two of one name, or a file is of one scan only.
        FileNotFoundError: there is no fixed image.
    """
    from cifl_tf.datasets.scans import scans_in

    for role in OF_ONE:
        if role in shared:
            raise ValueError(_of_one(role, f"{folder} is a folder"))
    # An error of all pairs at once.
    for role, path in shared.items():
        if not path.exists():
            raise FileNotFoundError(f"the {role} {path} does not exist; give a file")
    scans, left_out = scans_in(folder, only)
    if left_out:
        names = listed(path.name for path in left_out)
        note(f"masks and segmentations of {folder} are left out: {names}")
    fixed = shared["fixed"]
    found: dict[str, Entry] = {}
    for scan in scans:
        if os.path.realpath(scan) == os.path.realpath(fixed):
            note(f"{fixed} is in {folder} itself, and not registered to itself")
            continue
        files, name = {"moving": scan, **shared}, stem_of(scan)
        if name in found:
            raise ValueError(
                f"{found[name].input['moving']} and {scan} have one name; rename one, or give a "
                "CSV file of pairs with names"
            )
        found[name] = registration_entry(files, with_matrix or "initial" in files, name)
    if not found:
        ending = f" that ends in {' or '.join(only)}" if only else ""
        raise ValueError(
            f"{folder} is a folder without a scan{ending} to register; give a "
            "folder of NIfTI or MGZ files, or a BIDS dataset"
        )
    return found


def _of_one(role, several):
    """Why a file of one moving image does not fit."""
    return (
        f"{OF_ONE[role]} is of one moving image, but {several}; name the {role} of each in a CSV "
        "file of pairs"
    )
