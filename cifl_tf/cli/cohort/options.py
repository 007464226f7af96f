"""What the commands of ``cifl cohort`` share: arguments of BIDS Apps, and which scans are meant."""

import dataclasses
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cifl_tf._checks import COUNT, check_fields, check_given
from cifl_tf._options import Option
from cifl_tf.cli.output_folder import checked_folder
from cifl_tf.cli.parsing import parse_names, with_home

if TYPE_CHECKING:  # nibabel
    from cifl_tf.cli.cohort.selection import Selection

LISTS = ("--participant-label", "--session-label", "--contrast")
SHARD = re.compile(r"(\d+)/(\d+)")


class Level(StrEnum):
    """The levels of analysis of a BIDS App."""

    PARTICIPANT = "participant"
    GROUP = "group"


class Engine(StrEnum):
    """What runs the subjects."""

    PROCESSES = "processes"
    BEAM = "beam"


BidsFolder = Annotated[
    Path,
    typer.Argument(
        metavar="BIDS_DIR",
        callback=with_home,
        help="BIDS dataset, raw or derivative.",
        show_default=False,
    ),
]
DerivativeFolder = Annotated[
    Path,
    typer.Argument(
        metavar="OUT_DIR",
        callback=lambda value: checked_folder(value, "OUT_DIR"),
        help="Folder of the derivative dataset to write.",
        show_default=False,
    ),
]
AnalysisLevel = Annotated[
    Level,
    typer.Argument(
        help="'participant' does the scans, 'group' reports on those that are done.",
        show_default=False,
    ),
]
OverwriteScans = Annotated[
    bool,
    typer.Option(
        help="Do scans again that are done, and replace files in OUT_DIR that others made.",
    ),
]


@dataclasses.dataclass(frozen=True)
class CohortOptions:
    """Which scans are done, and by what.

    Attributes:
        participant_label: subjects, with or without sub-, with spaces or commas between.
        session_label: sessions, with or without ses-, with spaces or commas between.
        contrast: endings of the names of the scans, such as T1w,FLAIR.
        bids_filter_file: JSON file with what names must say, such as {"image": {"acquisition":
            "iso", "run": 1}}.
        shard: which share of the subjects, such as 2/8.
        n_procs: processes at work at the same time, each with its own copy of the model.
        omp_nthreads: threads of each process.
        mem_mb: most memory in MB of all processes together; for features and segment.
        engine: 'processes' of this machine; or 'beam', a pipeline of Apache Beam, whose workers see
            the same folders.
        beam_options: of the pipeline, in quotation marks, such as "--runner=FlinkRunner
            --flink_master=host:8081".

    Raises:
        ValueError: a number is not positive and whole, the shard is none, or there are options of a
            pipeline for another engine.
    """

    participant_label: Annotated[str | None, Option(default="all")] = None
    session_label: Annotated[str | None, Option(default="all")] = None
    contrast: Annotated[str | None, Option(default="all anatomical images")] = None
    bids_filter_file: Annotated[Path | None, Option(to_field=with_home)] = None
    shard: Annotated[str | None, Option(default="all")] = None
    n_procs: int = 1
    omp_nthreads: Annotated[int | None, Option(default="the processors over --n-procs")] = None
    mem_mb: Annotated[int | None, Option(default="half of what is free")] = None
    engine: Engine = Engine.PROCESSES
    beam_options: Annotated[str | None, Option(default="--n-procs processes of this machine")] = (
        None
    )

    def __post_init__(self):
        check_fields(self, n_procs=COUNT)
        check_given(self, omp_nthreads=COUNT, mem_mb=COUNT)
        self.share  # noqa: B018
        if self.beam_options is not None and self.engine != Engine.BEAM:
            raise ValueError("--beam-options is for --engine beam; give both or neither")

    @property
    def participants(self) -> list[str]:
        """Names of the folders of the subjects that are wanted; none for all."""
        return [f"sub-{name.removeprefix('sub-')}" for name in parse_names(self.participant_label)]

    @property
    def share(self) -> tuple[int, int]:
        """The number of the shard, from 1, and how many shards there are."""
        found = SHARD.fullmatch(self.shard or "1/1")
        number, count = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= number <= count:
            raise ValueError(
                f"--shard is {self.shard!r}; give which of how many, from 1, such as 2/8"
            )
        return number, count

    def selection(self) -> "Selection":
        """Which scans are wanted of each subject.

        Raises:
            ValueError: the filter file is none.
            OSError: it cannot be read.
        """
        from cifl_tf.cli.cohort.selection import Selection, read_filter

        file = self.bids_filter_file
        sessions = [f"ses-{name.removeprefix('ses-')}" for name in parse_names(self.session_label)]
        return Selection(
            tuple(parse_names(self.contrast)),
            tuple(sessions),
            {} if file is None else read_filter(file),
        )


class CohortCommand(typer.core.TyperCommand):
    """A command that takes its options as BIDS Apps do.

    That is, ``--participant_label`` as well, and several values after one option, or the option
    several times.
    """

    def parse_args(self, ctx, args):
        """Put commas between the values of one option."""
        rest: list[str] = []
        values: dict[str, list[str]] = {}
        current, before, after_level = None, 0, False
        for argument in args:
            if argument.startswith("--"):
                name, equals, value = argument.partition("=")
                name = name.replace("_", "-")
                current = name if name in LISTS else None
                if current is None:
                    rest.append(name + equals + value)
                else:
                    given = values.setdefault(name, [])
                    if equals:
                        given.append(value)
                        current = None
                    else:
                        before = len(given)
                continue
            if current is not None and (after_level or len(values[current]) == before):
                values[current].append(argument)
                continue
            current = None
            after_level |= argument in list(Level)
            rest.append(argument)
        for name, given in values.items():
            rest += [name, ",".join(given)] if given else [name]
        return super().parse_args(ctx, rest)
