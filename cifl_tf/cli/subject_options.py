"""Which subjects to train on: the options that all trainings on subjects have."""

import dataclasses
import itertools
from typing import TYPE_CHECKING, Annotated

from cifl_tf._options import Option
from cifl_tf.cli.parsing import parse_names, with_home
from cifl_tf.registration.config import RegistrationConfig
from cifl_tf.segmentation.config import SegmentationConfig

if TYPE_CHECKING:  # the datasets take seconds to import
    from cifl_tf.datasets import Cohort


@dataclasses.dataclass(frozen=True)
class SubjectOptions:
    """The dataset of a training, and the part that each of its subjects has.

    Attributes:
        data: a BIDS, neurite-OASIS or IXI folder; or 'virtual', made from MNI152;
            FOLDER:ses-01,space-MNI152Lin chooses among the files of a BIDS folder.
        segmentation: which label maps: of BIDS *_desc-NAME_dseg.nii.gz, or 'none' for images alone;
            of neurite-OASIS seg4, seg24 or seg35.
        skip_incomplete: leave out subjects that lack an image or labels, and name them.
        train_subjects: names to train on, with commas between.
        validation_subjects: names that choose the best epoch.
        test_subjects: names to keep out, with commas between.
    """

    data: Annotated[str, Option(to_field=with_home)] = "virtual"
    segmentation: Annotated[str | None, Option(default="tissue, or seg4")] = None
    skip_incomplete: bool = False
    train_subjects: Annotated[str | None, Option(default="all others")] = None
    validation_subjects: Annotated[str | None, Option(default="a fifth, at random")] = None
    test_subjects: str | None = None

    def cohorts(
        self, config: SegmentationConfig | RegistrationConfig, least: int = 1
    ) -> "tuple[Cohort, Cohort]":
        """Training and validation cohorts with the contrast of a training.

        Args:
            config: of the training; its seed chooses a validation at random.
            least: subjects of a validation at random.

        Raises:
            ValueError: the dataset cannot be used, or as ``split``.
        """
        from cifl_tf.datasets.catalog import load_cohort

        cohort = load_cohort(
            self.data, config.ndim, self.segmentation, self.skip_incomplete, [config.contrast]
        )
        return self.split(cohort, config.seed, least)

    def split(self, cohort: "Cohort", seed: int, least: int = 1) -> "tuple[Cohort, Cohort]":
        """Training and validation cohorts without the test subjects.

        Args:
            cohort: all subjects.
            seed: of the choice of a validation at random, a fifth of the rest.
            least: subjects of a validation at random.

        Raises:
            ValueError: there is no subject of a name, one is in two of the three, or there are too
                few of them.
        """
        named = {
            "--test-subjects": parse_names(self.test_subjects),
            "--validation-subjects": parse_names(self.validation_subjects),
            "--train-subjects": parse_names(self.train_subjects),
        }
        for one, other in itertools.combinations(named, 2):
            both = [name for name in named[one] if name in named[other]]
            if both:
                raise ValueError(f"{both} are in {one} and {other}; choose one")
        tested, validated, trained = named.values()
        cohort.select([*trained, *validated, *tested])  # raises if a name is not there
        kept = trained or [name for name in cohort.names if name not in tested]
        rest = cohort.select([name for name in kept if name not in validated])
        if validated:
            return rest, cohort.select(validated)
        count = max(least, len(rest) // 5)
        chosen_train, chosen, _ = rest.split((len(rest) - count, count, 0), seed)
        return chosen_train, chosen
