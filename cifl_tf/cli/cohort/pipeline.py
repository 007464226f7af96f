"""The work of a cohort as a pipeline of Apache Beam, by any of its runners."""

import dataclasses
import json
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared

from cifl_tf.cli.cohort.processes import ProcessDied
from cifl_tf.cli.cohort.work import Job, write_json
from cifl_tf.cli.errors import said
from cifl_tf.cli.run_report import Entry
from cifl_tf.images.atomic import clear_leftovers, temporary_path

OUTCOMES = "outcomes"  # of the subjects, while the pipeline runs
OFTEN = 0.2  # seconds between two looks at the outcomes


def runner_options(text: str | None, processes: int) -> list[str]:
    """Options of a pipeline as Beam takes them.

    Args:
        text: those of the user; None, or none with a runner, for several processes of this machine.
        processes: how many, of this machine.

    Raises:
        ValueError: a quotation in the text has no end.
    """
    try:
        given = shlex.split(text or "")
    except ValueError as error:
        raise ValueError(f"--beam-options is {text!r}: {error}; end each quotation") from None
    if any(option.split("=")[0] == "--runner" for option in given):
        return given
    # Not DirectRunner, which looks for a program on the net first.
    local = ["--runner=FnApiRunner", f"--direct_num_workers={processes}"]
    mode = "multi_processing" if processes > 1 else "in_memory"
    return [*local, f"--direct_running_mode={mode}", *given]


def pipeline_results(
    job: Job, subjects: Sequence[str], options: Sequence[str]
) -> Iterator[tuple[str, list[Entry] | ProcessDied]]:
    """What a job gives for each of many subjects, in the order in which it is done.

    The workers reach the folders of the job by the same paths as this process. Each loads the model
    once, and does one subject at a time.

    Args:
        job: what is done with each subject.
        subjects: folders, as "sub-01".
        options: of the pipeline, see ``runner_options``.

    Yields:
        The subject, and its entries; or what became of the pipeline.
    """
    clear_leftovers(job.out)
    with temporary_path(job.out / OUTCOMES) as folder:
        folder.mkdir()
        ended: list[BaseException | None] = []
        thread = threading.Thread(
            target=_run, args=(job, subjects, options, folder, ended), daemon=True
        )
        thread.start()
        waiting = dict.fromkeys(subjects)
        while waiting:
            is_last = bool(ended)
            for subject in [one for one in waiting if _file(folder, one).exists()]:
                del waiting[subject]
                rows = json.loads(_file(folder, subject).read_text(encoding="utf-8"))
                yield subject, [Entry(**row) for row in rows]
            if is_last:
                break
            time.sleep(OFTEN)
        thread.join()
        for subject in waiting:
            why = ended[0]
            yield subject, ProcessDied(f"the pipeline ended before: {why and said(why)}")
        if not waiting and ended[0] is not None:
            raise ended[0]


def _run(job, subjects, options, folder, ended):
    """Run the pipeline to its end; put the error at the end of the list, or None."""
    try:
        with beam.Pipeline(options=PipelineOptions([*options])) as pipeline:
            given = pipeline | "Subjects" >> beam.Create([*subjects])
            # Or the runner may do all subjects where the list of them is made.
            shared = given | "Share" >> beam.Reshuffle()
            shared | "Work" >> beam.ParDo(DoSubjects(job, str(folder)))
    except BaseException as error:
        ended.append(error)
    else:
        ended.append(None)


class DoSubjects(beam.DoFn):
    """Does a job with subjects; of all threads of a process, one at a time.

    Args:
        job: called with a subject, gives entries.
        folder: where the outcome of each subject is written, as ``sub-01.json``.
    """

    def __init__(self, job: Callable[[str], list[Entry]], folder: str):
        super().__init__()
        self._job = job
        self._folder = folder
        self._handle = Shared()

    def setup(self):
        """Share the job, which holds the model, with the other threads of the process."""
        self._here = self._handle.acquire(lambda: _Here(self._job))

    def process(self, subject: str) -> None:
        """Do a subject, once even if the runner asks again."""
        file = _file(self._folder, subject)
        with self._here.lock:
            # Without the folder, the run has ended.
            if file.parent.is_dir() and not file.exists():
                entries = self._here.job(subject)
                write_json(file, [dataclasses.asdict(entry) for entry in entries])


@dataclasses.dataclass(eq=False)
class _Here:
    """The job of a process."""

    job: Callable[[str], list[Entry]]
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)


def _file(folder, subject):
    return Path(folder) / f"{subject}.json"
