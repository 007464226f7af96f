"""A corpus of bad inputs, through the commands that read them.

Each is refused in one line that the user understands, without a traceback, and leaves no file.
"""

import json
import shlex
import shutil
from functools import lru_cache
from pathlib import Path

import nibabel
import pytest

import cifl_tf
from bad_datasets import DATASETS
from bad_images import IMAGES, LABELS, nifti, packed, write_image, write_labels
from bad_options import COMMANDS, OPTIONS
from cifl_tf.images.preprocessing import Preprocessing
from cifl_tf.models.files import load_network
from cifl_tf.registration.loading import REGISTRATION_FILE
from cifl_tf.segmentation.loading import SEGMENTER_FILE
from cifl_tf.stripping.network import build_stripper
from command_runner import run_here

LISTS = {
    "features of slices": ("features --model {encoder}", "_features.nii.gz"),
    "features of volumes": ("features --model {encoder_3d}", "_features.nii.gz"),
    "segment apply": ("segment apply --model {segmenter}", "_dseg.nii.gz"),
    "strip": ("strip --model {stripper}", "_brain.nii.gz"),
}
PAIRS = {
    "register apply, moving": "register apply {bad} {image} --model {registration}",
    "register apply, fixed": "register apply {image} {bad} --model {registration}",
    "register optimize, moving": "register optimize {bad} {image} --model intensity",
    "register optimize, fixed": "register optimize {image} {bad} --model intensity",
    "register pair, moving": "register {bad} {image} --model {encoder_3d}",
    "register pair, fixed": "register {image} {bad} --model {encoder_3d}",
}
WARPED_LABELS = {
    "register apply, labels": (
        "register apply {image} {image} --labels {bad} --model {registration}"
    ),
    "register optimize, labels": (
        "register optimize {image} {image} --labels {bad} --model intensity"
    ),
    "register pair, labels": "register {image} {image} --labels {bad} --model {encoder_3d}",
}
READERS = {
    "segment train": "segment train --encoder intensity --contrast T1w --steps 1",
    "evaluate": "evaluate --model {segmenter} --contrast T1w --subjects sub-1",
}
VALUES = [
    (command, option, value)
    for command, (_, options) in OPTIONS.items()
    for option, values in options.items()
    for value in values
]


@pytest.fixture(scope="module")
def world(tmp_path_factory, dataset):
    """Good files and folders that the bad inputs are put among, by name."""
    folder = tmp_path_factory.mktemp("world")
    names = {name: folder / name for name in ("empty", "missing", "broken")}
    names |= {"file": folder / "file.txt", "image": folder / "good.nii.gz", "data": dataset}
    names["empty"].mkdir()
    names["broken"].symlink_to(folder / "nowhere")
    names["file"].write_text("text")
    names["image"].write_bytes(packed(nifti()))
    for name, ndim in (("encoder", 2), ("encoder_3d", 3)):
        names[name] = folder / f"{name}.keras"
        cifl_tf.build_encoder(ndim, 2, 2).save(names[name])
    names["stripper"] = folder / "stripper.keras"
    cifl_tf.Stripper(build_stripper(2, 2)).save(names["stripper"])
    names_of_labels = ["background", "WM", "GM", "CSF", "THA"]  # of the dataset
    claim = {"plane": "coronal", "label_names": names_of_labels, "label_values": [*range(5)]}
    segmenter = cifl_tf.Segmenter(
        cifl_tf.build_segmenter(None, 5, 2, 2, 2),
        Preprocessing(plane="coronal"),
        label_names=names_of_labels,
    )
    for name, network, file in (
        ("segmenter", segmenter, SEGMENTER_FILE),
        (
            "registration",
            cifl_tf.RegistrationNetwork(None, (16, 12), num_filters=2),
            REGISTRATION_FILE,
        ),
    ):
        names[name] = folder / name
        names[name].mkdir()
        (names[name] / "config.json").write_text(json.dumps({**claim, "ndim": 2}))
        network.save(names[name] / file)
    return names


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """The bad images and label maps: path, and a part of the message."""
    folder = tmp_path_factory.mktemp("bad")
    found = {name: write_image(name, folder) for name in IMAGES}
    return found | {f"labels: {name}": write_labels(name, folder) for name in LABELS}


def accepted(*_, **__):
    """Stands for work that only begins where a bad input was accepted."""
    raise AssertionError("the bad input was accepted")


@pytest.fixture(autouse=True)
def no_work(monkeypatch):
    """No training and no registration begins; models are loaded once."""
    monkeypatch.setattr("cifl_tf.training.folder.fit_in_folder", accepted)
    monkeypatch.setattr("cifl_tf.registration.images.register_volumes", accepted)
    monkeypatch.setattr("cifl_tf.registration.affine_registration._Pair", accepted)
    monkeypatch.setattr("cifl_tf.cli.demo_images.run_demo", accepted)
    monkeypatch.setattr("cifl_tf.registration.loading.load_registration", loaded_registration)
    monkeypatch.setattr("cifl_tf.models.files.load_network", loaded_network)


loaded_registration = lru_cache(cifl_tf.load_registration)
loaded_network = lru_cache(load_network)


def files_of(world):
    """All that lies beside the good files, and where they were written last."""
    return {path: path.lstat().st_mtime_ns for path in world["image"].parent.rglob("*")}


def without_notes(stderr):
    """The lines of standard error that are no notes."""
    return [line for line in stderr.splitlines() if not line.startswith("Note: ")]


def check_refusal(done, fragment=""):
    """One line of the command, or a usage, that holds a part; without a traceback."""
    assert type(done.exception) is SystemExit, done.exception
    assert done.exit_code in (1, 2)
    assert "Traceback" not in done.output
    if done.exit_code == 1:
        (line,) = without_notes(done.stderr)
        assert line.startswith("cifl: ")
    assert fragment in done.stderr


@pytest.fixture
def refuse(world, tmp_path, monkeypatch):
    """Run a command that is to be refused, and to leave everything as it was."""
    monkeypatch.chdir(tmp_path)

    def run(command, fragment="", **more):
        before = files_of(world)
        names = {**world, "out": tmp_path / "out", **more}
        done = run_here(*(part.format(**names) for part in shlex.split(command)))
        check_refusal(done, fragment)
        assert files_of(world) == before
        assert not [*tmp_path.iterdir()]
        return done

    return run


def test_the_corpus_is_large():
    images = len(IMAGES) * len({**LISTS, **PAIRS}) + len(LABELS) * len(WARPED_LABELS)
    datasets = len(DATASETS) * len(READERS)
    values = len(VALUES) + len(COMMANDS)
    assert len(IMAGES) >= 70
    assert values >= 120
    assert images + datasets + values >= 400


@pytest.mark.parametrize("command", LISTS)
def test_bad_images_do_not_cost_the_good_one(command, world, images, tmp_path):
    text, ending = LISTS[command]
    bad = [images[name] for name in IMAGES]
    paths = [path for path, _ in bad]
    half = len(paths) // 2
    parts = [part.format(**world) for part in shlex.split(text)]
    given = [*paths[:half], world["image"], *paths[half:]]
    done = run_here(*parts, *given, "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    lines = without_notes(done.stderr)
    for (path, message), line in zip(bad, lines, strict=True):
        assert line.startswith("cifl: ")
        assert " ".join(path.name.split()) in line
        assert message in line
    result = tmp_path / "out" / f"good{ending}"
    assert done.stdout.splitlines() == [str(result)]
    assert nibabel.load(result).shape[:3] == nibabel.load(world["image"]).shape
    names = {path.name for path in (tmp_path / "out").iterdir()}
    (run,) = json.loads((tmp_path / "out" / "run.json").read_text())["runs"]
    outcomes = [entry["outcome"] for entry in run["inputs"]]
    assert outcomes == [*["failed"] * half, "done", *["failed"] * (len(paths) - half)]
    files = {Path(name).parts[0] for name in run["inputs"][half]["files"]}
    assert names == {"run.json", "report.html", *files} | (
        {"volumes.csv"} if command == "segment apply" else set()
    )


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("command", PAIRS)
def test_bad_images_of_pairs(command, name, images, refuse):
    path, message = images[name]
    refuse(f"{PAIRS[command]} --out {{out}}", message, bad=path)


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("command", WARPED_LABELS)
def test_bad_labels(command, name, images, refuse):
    path, message = images[f"labels: {name}"]
    refuse(f"{WARPED_LABELS[command]} --out {{out}}", message, bad=path)


@pytest.mark.parametrize(("command", "option", "value"), VALUES)
def test_bad_values(command, option, value, refuse):
    right, _ = OPTIONS[command]
    done = refuse(f"{command} {right} {option} {shlex.quote(value)}")
    assert "No such option" not in done.stderr


@pytest.mark.parametrize(("command", "message"), COMMANDS)
def test_bad_commands(command, message, refuse):
    refuse(command, message)


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("command", READERS)
def test_damaged_datasets(command, name, tmp_path_factory, dataset, refuse):
    damage, message = DATASETS[name]
    folder = shutil.copytree(dataset, tmp_path_factory.mktemp("damaged") / "bids")
    damage(folder)
    refuse(f"{READERS[command]} --data {{bids}} --out {{out}}", message, bids=folder)
