"""The work on one subject, which any process may do: its scans, their sidecars and the record."""

import contextlib
import dataclasses
import json
import logging
import traceback
from pathlib import Path

from cifl_tf._notes import printed_notes
from cifl_tf.cli.cohort.analyses import Analysis
from cifl_tf.cli.cohort.dataset import bids_uri
from cifl_tf.cli.cohort.names import Scan
from cifl_tf.cli.cohort.selection import Selection
from cifl_tf.cli.command_run import CommandRun
from cifl_tf.cli.errors import mendable, said
from cifl_tf.cli.output_folder import done_before
from cifl_tf.cli.run_report import FAILED, SKIPPED, Entry, Request, read_runs
from cifl_tf.images.atomic import atomic_path
from cifl_tf.images.memory import SHARE, available_memory, resident_memory

IMAGE_ENDING, SIDECAR_ENDING = ".nii.gz", ".json"


@dataclasses.dataclass(frozen=True)
class Job:
    """What is done with the subjects of a dataset.

    Attributes:
        request: what the command was asked for; its options are those that results depend on.
        bids: the dataset.
        out: the derivative dataset.
        selection: which scans.
        analysis: what is done.
        processes: that are at work at the same time.
        mem_mb: most memory in MB of all processes; None for half of what is free.
    """

    request: Request
    bids: Path
    out: Path
    selection: Selection
    analysis: Analysis
    processes: int = 1
    mem_mb: int | None = None

    def __call__(self, subject: str) -> list[Entry]:
        """Do what is not done yet of a subject.

        Args:
            subject: folder, as "sub-01".

        Returns:
            Entries of its scans: "done", "failed", or "skipped" where they were done before. One
            entry that failed where the subject could not be begun; none where it has no scan.
        """
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        try:
            with printed_notes():
                return self._do(subject)
        except Exception as error:
            return [failed_subject(subject, error)]

    def entries(self, subject: str) -> list[tuple[Scan, Entry]]:
        """The scans of a subject that are wanted, and what is to become of each.

        Raises:
            ValueError: two scans would become the same file.
        """
        found: dict[str, Scan] = {}
        entries = []
        for scan in self.selection.scans(self.bids, subject):
            planned = [*self._names(scan)]
            for name in planned:
                if name in found:
                    raise ValueError(
                        f"{found[name].path.name} and {scan.path.name} would both become {name}; "
                        "choose by --contrast or --bids-filter-file, with an OUT_DIR for each"
                    )
                found[name] = scan
            entries.append((scan, Entry({"image": str(scan.path.absolute())}, planned)))
        return entries

    def _do(self, subject):
        folder = self.out / subject
        entries = self.entries(subject)
        kept = []
        if not self.request.overwrite:
            # Without the contents: a result that somebody has corrected stays as it is.
            runs = read_runs(folder)
            kept = [
                done_before(folder, self.request, entry, runs, contents=False)
                for _, entry in entries
            ]
        before = [entry is not None for entry in kept] or [False] * len(entries)
        todo = [pair for pair, done in zip(entries, before, strict=True) if not done]
        if todo:
            with CommandRun(self.request, folder, [entry for _, entry in todo], keep=True) as run:
                for scan, entry in todo:
                    # The record holds the error.
                    with contextlib.suppress(Exception), run.doing(entry):
                        self._write(scan, folder, entry)
        return [
            dataclasses.replace(entry, outcome=SKIPPED) if done else entry
            for (_, entry), done in zip(entries, before, strict=True)
        ]

    def _names(self, scan):
        """Names of the files of a scan, with sidecars: what each is, and of a sidecar its image."""
        files = self.analysis.files(scan)
        sidecars = {
            name.removesuffix(IMAGE_ENDING) + SIDECAR_ENDING: what
            for what, name in files.items()
            if name.endswith(IMAGE_ENDING)
        }
        return {**{name: what for what, name in files.items()}, **sidecars}

    def _write(self, scan, folder, entry):
        names = self._names(scan)
        files = {
            what: folder / name for name, what in names.items() if not name.endswith(SIDECAR_ENDING)
        }
        self.analysis.write(scan, files, entry, self._memory())
        source = bids_uri(scan.place)
        for name, what in names.items():
            if name.endswith(SIDECAR_ENDING):
                content = {
                    "SpatialReference": source,
                    "Model": self.analysis.model,
                    **({"Resolution": "That of the scan"} if "_res-" in name else {}),
                    **self.analysis.sidecar(scan, what),
                    "Sources": [source],
                }
                write_json(folder / name, content)

    def _memory(self):
        """Bytes that this process may have."""
        if self.mem_mb is not None:
            return self.mem_mb * 1e6 / self.processes
        available = available_memory()
        if self.processes == 1 or available is None:
            return None
        return (resident_memory() or 0) + SHARE * available / self.processes


def failed_subject(subject: str, error: Exception) -> Entry:
    """The entry of a subject that could not be begun, or not be ended.

    Args:
        subject: folder.
        error: why.
    """
    entry = Entry({"subject": subject}, [], outcome=FAILED, error=said(error))
    if mendable(error) is None:
        entry.traceback = "".join(traceback.format_exception(error))
    return entry


def write_json(path: Path, content: dict | list) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic_path(path) as temporary:
        text = json.dumps(content, indent=2, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")
