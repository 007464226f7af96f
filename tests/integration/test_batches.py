"""What commands on lists of images do with failures, earlier results and home folders."""

import contextlib
import csv
import json
import os
import uuid

import nibabel
import numpy as np
import pytest
import tensorflow as tf

import cifl_tf
from cifl_tf.figures.registration import RegisteredSlice
from cifl_tf.images.grid import grid_at
from cifl_tf.registration.displacement_field import Displacement
from cifl_tf.registration.images import RegistrationResult
from cifl_tf.segmentation.loading import SEGMENTER_FILE
from cifl_tf.training.claims import claim_folder
from command_runner import run_here

RECORDS = {"run.json", "report.html", "figures"}
THIN = [(20, 24, 3), (20, 24, 2), (20, 3, 24), (2, 24, 20), (20, 24, 1), (3, 2, 20)]


@pytest.fixture
def encoder_file(tiny_encoder, tmp_path):
    path = tmp_path / "encoder.keras"
    tiny_encoder.save(path)
    return path


@pytest.fixture
def save(tmp_path, rng):
    """Save a random image, and give its path."""

    def write(name, shape=(9, 10, 11)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = rng.random(shape).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(image, np.diag([2, 2, 2, 1])), path)
        return path

    return write


def segmenter(folder, ndim=2, names=("WM", "GM")):
    """A folder of an untrained segmenter."""
    values = [*range(len(names) + 1)]
    claim = {"plane": "coronal", "label_names": ["background", *names], "label_values": values}
    claim_folder(folder, claim)
    cifl_tf.build_segmenter(None, len(values), ndim, 2, 4).save(folder / SEGMENTER_FILE)
    return folder


def runs(out):
    return json.loads((out / "run.json").read_text())["runs"]


def names(out):
    return {path.name for path in out.iterdir()}


@pytest.mark.parametrize("ndim", [2, 3])
def test_thin_volumes_are_segmented(save, tmp_path, ndim):
    model = segmenter(tmp_path / "model", ndim)
    images = [save(f"{index}.nii.gz", shape) for index, shape in enumerate(THIN)]
    done = run_here("segment", "apply", *images, "--model", model, "--out", tmp_path / "out")
    refused = [image for image, shape in zip(images, THIN, strict=True) if ndim == 3 and 1 in shape]
    assert [image.name in done.stderr for image in images] == [image in refused for image in images]
    assert done.stderr.count("\n") == len(refused)
    assert done.exit_code == bool(refused)
    for image, shape in zip(images, THIN, strict=True):
        if image not in refused:
            name = image.name.replace(".nii.gz", "_dseg.nii.gz")
            assert nibabel.load(tmp_path / "out" / name).shape == shape


@pytest.mark.parametrize("ndim", [2, 3])
def test_thin_volumes_have_features(save, tmp_path, ndim):
    encoder = tmp_path / "unet.keras"
    cifl_tf.build_encoder(ndim, 2, 2, architecture="unet").save(encoder)
    images = [save(f"{index}.nii.gz", shape) for index, shape in enumerate(THIN) if min(shape) > 1]
    for size in (2, 5):
        out = tmp_path / f"out{size}"
        options = ["--model", encoder, "--out", out, "--voxel-size", size, "--stripped"]
        done = run_here("features", *images, *options)
        # In voxels of 5 mm they are one voxel thick.
        refused = images if (ndim, size) == (3, 5) else []
        assert done.stderr.splitlines() == [
            f"cifl: {image} is a single slice, but the network is for volumes; give a volume, or "
            "a network for slices"
            for image in refused
        ]


def fail(name):
    """Fail in the way that the name of an image says."""
    if name == "value":
        raise ValueError(f"{name}.nii.gz is constant: give another")
    errors = {
        "system": OSError(28, "No space left on device"),
        "memory": MemoryError("Unable to allocate 9 TiB"),
        "gpu": tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"),
        "fault": KeyError("missing"),
        "tensorflow": tf.errors.InvalidArgumentError(None, None, "no such axis"),
    }
    if name in errors:
        raise errors[name]


@pytest.fixture
def faked(monkeypatch, save, encoder_file):
    """Run `cifl features` on new images without their features; each fails as its name says."""

    @contextlib.contextmanager
    def features(image, *_, **__):
        fail(os.path.basename(image).removesuffix(".nii.gz"))
        yield np.zeros((9, 10, 11, 1), np.float32), cifl_tf.read_volume(image)

    monkeypatch.setattr("cifl_tf.features.bounded.bounded_features", features)

    def run(*images, out, options=()):
        paths = [save(f"{image}.nii.gz") for image in images]
        given = *paths, "--model", encoder_file, "--stripped", "--out", out
        return run_here(*options, "features", *given)

    return run


def test_no_error_costs_the_other_images(faked, tmp_path):
    out = tmp_path / "out"
    images = ["a", "value", "system", "memory", "gpu", "fault", "tensorflow", "b"]
    done = faked(*images, out=out)
    assert done.exit_code == 1
    assert names(out) == {"a_features.nii.gz", "b_features.nii.gz", *RECORDS}
    assert done.stdout.split() == [str(out / f"{name}_features.nii.gz") for name in "ab"]
    lines = [line for line in done.stderr.splitlines() if line.startswith("cifl: ")]
    fault, *failures = lines
    assert fault.startswith("cifl: this is a fault of cifl_tf")
    assert failures[0] == "cifl: value.nii.gz is constant: give another"
    for name, line in zip(images[2:7], failures[1:], strict=True):
        assert line.startswith(f"cifl: {tmp_path / name}.nii.gz: ")
    assert done.stderr.count("Traceback") == 2
    assert done.stderr.splitlines()[-len(failures) :] == failures

    (run,) = runs(out)
    assert run["command"] == "features"
    assert run["arguments"][0] == "features"
    assert run["options"]["model"] == str(tmp_path / "encoder.keras")
    assert run["options"]["plane"] is None  # coronal, or that of thick slices
    assert {"cifl_tf", "python", "tensorflow", "tf-keras", "numpy", "nibabel"} <= {*run["versions"]}
    assert run["device"].startswith(("CPU", "GPU"))
    assert run["seconds"] >= sum(entry["seconds"] for entry in run["inputs"]) - 0.01
    outcomes = [entry["outcome"] for entry in run["inputs"]]
    assert outcomes == ["done", *["failed"] * 6, "done"]
    inputs = [entry["input"]["image"] for entry in run["inputs"]]
    assert inputs == [str(tmp_path / f"{name}.nii.gz") for name in images]
    tracebacks = [
        name for name, entry in zip(images, run["inputs"], strict=True) if entry["traceback"]
    ]
    assert tracebacks == ["fault", "tensorflow"]
    assert [*run["inputs"][0]["files"]] == ["a_features.nii.gz", "figures/a_features.png"]
    assert "9 TiB" in run["inputs"][3]["error"]


def test_debug_shows_every_traceback(faked, tmp_path):
    done = faked("value", out=tmp_path / "out", options=["--debug"])
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.endswith("cifl: value.nii.gz is constant: give another\n")


def test_the_record_is_true_at_every_moment(faked, tmp_path, monkeypatch):
    """What a kill during the second of three images would leave."""
    out, seen = tmp_path / "out", []
    monkeypatch.setattr("test_batches.fail", lambda name: seen.append((name, runs(out)[-1])))
    assert faked("a", "b", "c", out=out).exit_code == 0
    name, run = seen[1]
    assert name == "b"
    assert run["seconds"] is None
    assert [entry["outcome"] for entry in run["inputs"]] == ["done", "pending", "pending"]
    # After a kill here, the same command goes on, and another input is refused.
    (out / "run.json").write_text(json.dumps({"runs": [run]}))
    (out / "b_features.nii.gz").unlink()
    done = faked("other/b", out=out)
    assert done.exit_code == 1
    assert f"is to make it from {tmp_path / 'b.nii.gz'}), " in done.stderr
    assert faked("a", "b", "c", out=out).exit_code == 0
    assert [entry["outcome"] for entry in runs(out)[-1]["inputs"]] == ["done"] * 3


def test_an_interrupted_run_says_what_it_skipped(faked, tmp_path, monkeypatch):
    def interrupt(name):
        if name == "b":
            raise KeyboardInterrupt

    monkeypatch.setattr("test_batches.fail", interrupt)
    done = faked("a", "b", "c", out=tmp_path / "out")
    assert (done.exit_code, done.stderr) == (130, "cifl: interrupted\n")
    (run,) = runs(tmp_path / "out")
    assert [entry["outcome"] for entry in run["inputs"]] == ["done", "skipped", "skipped"]


def test_earlier_runs_stay_in_the_record(faked, tmp_path):
    out = tmp_path / "out"
    assert faked("a", out=out).exit_code == 0
    assert faked("value", out=out).exit_code == 1
    assert faked("b", out=out).exit_code == 0
    outcomes = [entry["outcome"] for run in runs(out) for entry in run["inputs"]]
    assert outcomes == ["done", "failed", "done"]
    (out / "run.json").write_text("{")
    done = faked("c", out=out)
    assert done.stderr.startswith(f"cifl: {out / 'run.json'} is no record")
    assert (out / "run.json").read_text() == "{"


def test_a_kill_leaves_nothing_behind_the_next_run(faked, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / f".{uuid.uuid4().hex}.a_features.nii.gz").write_text("half")
    assert faked("a", out=out).exit_code == 0
    assert names(out) == {"a_features.nii.gz", *RECORDS}


def test_a_run_may_be_repeated_and_nothing_else_is_overwritten(
    save, tmp_path, encoder_file, monkeypatch
):
    image, other = save("sub-1/T1.nii.gz"), save("sub-2/T1.nii.gz")
    out = tmp_path / "out"
    options = ["--model", encoder_file, "--out", out]
    assert run_here("features", image, *options).exit_code == 0
    result, picture = out / "T1_features.nii.gz", out / "figures" / "T1_features.png"
    first = result.read_bytes()
    monkeypatch.chdir(image.parent)
    assert run_here("features", "T1.nii.gz", *options).exit_code == 0
    monkeypatch.chdir(other.parent)
    refused = f"cifl: {result} (made from {image}), {picture} (made from {image}) are in the way; "
    done = run_here("features", "T1.nii.gz", *options)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(refused)
    again = run_here("features", image, *options, "--plane", "axial")
    assert "made with plane None, not 'axial'" in again.stderr
    assert nibabel.load(result).shape == (9, 10, 11, 4)
    assert len(runs(out)) == 2
    before = np.asarray(nibabel.load(result).dataobj)
    assert run_here("features", "T1.nii.gz", *options, "--overwrite").exit_code == 0
    assert not np.array_equal(before, np.asarray(nibabel.load(result).dataobj))
    assert first != result.read_bytes()
    own = save("T1_features.nii.gz")
    done = run_here("features", other, "--model", encoder_file, "--out", tmp_path)
    assert f"{own} (no run of cifl in this folder wrote it) is in the way" in done.stderr


def test_tables_tell_images_of_the_same_name_apart(save, tmp_path, monkeypatch):
    model, out = segmenter(tmp_path / "model"), tmp_path / "out"
    images = [save(f"sub-{number}/T1.nii.gz") for number in (1, 2)]
    apply = ["segment", "apply", "T1.nii.gz", "--model", model, "--out", out]
    for image, status in zip(images, (0, 1), strict=True):
        monkeypatch.chdir(image.parent)
        assert run_here(*apply).exit_code == status
    assert run_here(*apply, "--overwrite").exit_code == 0
    with (out / "volumes.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)] == [str(image) for image in images]

    another = segmenter(tmp_path / "another", names=("CSF",))
    apply[4] = another
    done = run_here(*apply)
    table = f"{out / 'volumes.csv'} has the columns ['image', 'WM', 'GM'], but the segmenter"
    assert done.stderr.startswith(f"cifl: {table}")
    assert done.stderr.count("\n") == 1


def test_home_folders_in_every_option(save, tmp_path, encoder_file, monkeypatch):
    """As in `--out=~/folder`, where the shell leaves the tilde as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    save("T1.nii.gz")
    done = run_here("features", "~/T1.nii.gz", "--model=~/encoder.keras", "--out=~/features")
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "features" / "T1_features.nii.gz").exists()
    assert run_here("export", "--model=~/encoder.keras", "--out=~/saved").exit_code == 0
    (saved,) = runs(tmp_path / "saved")
    assert "saved_model.pb" in saved["inputs"][0]["files"]
    segmenter(tmp_path / "segmenter")
    done = run_here("segment", "apply", "~/T1.nii.gz", "--model=~/segmenter", "--out=~/labels")
    assert done.exit_code == 0, done.stderr
    done = run_here("segment", "train", "--data=~/none", "--out=~/new")
    assert done.stderr.startswith(f"cifl: {tmp_path / 'none'} is no folder")
    configs = []
    monkeypatch.setattr(
        "cifl_tf.features.training.train", lambda out, config: configs.append((out, config))
    )
    done = run_here("train", "--out=~/new", "--labels=~/maps", "--initial=~/encoder.keras")
    assert done.exit_code == 0, done.stderr
    ((out, config),) = configs
    assert (out, config.labels) == (tmp_path / "new", str(tmp_path / "maps"))
    assert config.initial == str(encoder_file)
    assert "Device: " in done.stdout
    assert names(elsewhere) == set()


@pytest.mark.parametrize(
    "command",
    [
        ["train"],
        ["features", "{image}"],
        ["export"],
        ["demo"],
        ["segment", "train"],
        ["segment", "apply", "{image}", "--model", "none"],
        ["segment", "export", "--model", "none"],
        ["register", "train"],
        ["register", "apply", "{image}", "{image}", "--model", "none"],
        ["register", "optimize", "{image}", "{image}"],
        ["register", "export", "--model", "none"],
        ["evaluate", "--model", "shapes-2d", "--contrast", "T1w,T2w"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_no_command_writes_to_a_file(command, save, tmp_path):
    image = save("image.nii.gz")
    before = image.read_bytes()
    done = run_here(*(part.format(image=image) for part in command), "--out", image)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        f"cifl: --out {image} cannot be made, for {image} is a file; give a folder\n"
    )
    assert image.read_bytes() == before


def test_a_failed_run_into_a_new_folder_leaves_none(faked, tmp_path):
    assert faked("value", out=tmp_path / "new" / "out").exit_code == 1
    assert not (tmp_path / "new").exists()
    assert faked("fault", out=tmp_path / "new" / "out").exit_code == 1
    (run,) = runs(tmp_path / "new" / "out")
    assert "KeyError: 'missing'" in run["inputs"][0]["traceback"]


@pytest.fixture
def registered(monkeypatch):
    """Registrations that are made at once."""

    def register(moving, fixed, method, labels, *_):
        image = nibabel.Nifti1Image(np.zeros((2, 2, 1), np.float32), np.eye(4))
        still = RegisteredSlice(*np.zeros((3, 8, 8)), np.zeros((8, 8, 2)))
        warped_labels = None if labels is None else image
        views, warps = {"axial": still}, [Displacement.identity(grid_at(np.eye(4), (2, 2, 1)))] * 2
        return RegistrationResult(*[image] * 4, warped_labels, 0.0, 0.0, views, *warps)

    monkeypatch.setattr("cifl_tf.registration.images.register_images", register)


@pytest.mark.usefixtures("registered")
def test_registrations_overwrite_nothing(save, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    optimize = ["register", "optimize", save("a.nii.gz"), save("b.nii.gz"), "--model", "intensity"]
    labels = tmp_path / "labels.nii.gz"
    labels.write_text("of the user")
    for more in ([], ["--overwrite"]):
        done = run_here(*optimize, "--out", ".", *more)
        assert done.stderr == "cifl: labels.nii.gz is in the way; move it, or give another folder\n"
    assert labels.read_text() == "of the user"
    labels.unlink()
    optimize[2] = save("warped.nii.gz")
    done = run_here(*optimize, "--out", ".")
    assert done.stderr == "cifl: warped.nii.gz is an input of this command; give another folder\n"
    optimize[2] = tmp_path / "a.nii.gz"
    done = run_here(*optimize, "--out", ".")
    assert done.stderr.startswith(
        "cifl: warped.nii.gz (no run of cifl in this folder wrote it) is in the way;"
    )


@pytest.mark.usefixtures("registered")
def test_labels_of_another_registration_do_not_stay_beside_the_next(save, tmp_path):
    out = tmp_path / "out"
    optimize = ["register", "optimize", save("a.nii.gz"), save("b.nii.gz"), "--model", "intensity"]
    optimize += ["--out", out]
    for _ in range(2):
        done = run_here(*optimize, "--labels", save("truth.nii.gz"))
        assert done.exit_code == 0, done.output
    assert "labels.nii.gz" in names(out)
    done = run_here(*optimize)
    assert "and 4 more are in the way" in done.stderr
    assert run_here(*optimize, "--overwrite").exit_code == 0
    assert "labels.nii.gz" not in names(out)
    assert [run["inputs"][0]["outcome"] for run in runs(out)] == ["done"] * 3
    assert set(runs(out)[0]["inputs"][0]["input"]) == {"moving", "fixed", "labels"}
    assert runs(out)[2]["options"]["ndim"] == 3
