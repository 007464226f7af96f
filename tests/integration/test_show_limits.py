import csv
import dataclasses
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

import limits_images
import show_limits
from cifl_tf.datasets import virtual_cohort
from unreadable_subjects import with_unreadable

PAGE = Path(__file__).parents[2] / "docs" / "limits-tables.md"


def test_tables_and_pictures_are_written(tiny_encoder, tmp_path, capsys):
    model, out, page = tmp_path / "encoder.keras", tmp_path / "out", tmp_path / "limits.md"
    tiny_encoder.save(model)
    page.write_text(PAGE.read_text())
    show_limits.main(["--model", str(model), "--out", str(out), "--page", str(page)])
    with open(out / "limits.csv", newline="") as stream:
        rows = {row["image"]: row for row in csv.DictReader(stream)}
    assert {row["group"] for row in rows.values()} == set(show_limits.GROUPS)
    for name, row in rows.items():
        kinds = [row["features"], row["averaged"]]
        assert all((float(value) == 1) == (name == "T1") for value in kinds)
        assert all(-1 <= float(value) <= 1 for value in kinds)
        assert bool(row["features_near"]) == (row["group"] in ("lesion", "outside"))
    # Beyond the reach of its features, a lesion changes nothing.
    assert float(rows["T1, dark lesion"]["features_far"]) > 0.999

    pictures = {path.stem: path for path in out.glob("*.png")}
    assert set(pictures) == {"lesion", "quality", "outside"}
    for path in pictures.values():
        assert path.stat().st_size < 400e3
        with Image.open(path) as image:
            assert len(image.getcolors()) > 50

    # The page of the repository has the same rows, and the same text around them.
    text, old = page.read_text(), PAGE.read_text()
    assert capsys.readouterr().out.strip() in text
    for part in (text, old):
        assert all(f"| {name} |" in part for name in rows)
    assert text.startswith(old.partition("<!-- simulated: begin -->")[0])
    assert text.endswith(old.partition("<!-- simulated: end -->")[2])


def test_a_page_without_markers_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- simulated: begin -->")
    with pytest.raises(ValueError, match="'<!-- simulated: end -->'"):
        show_limits.replace_part(page, "simulated", "text")
    assert page.read_text() == "<!-- simulated: begin -->"


def test_thick_slices_keep_a_ramp_and_lose_what_is_finer():
    ramp = np.broadcast_to(np.arange(23.0), (4, 23))
    np.testing.assert_allclose(limits_images.coarser(ramp, (1, 5))[:, 2:18], ramp[:, 2:18])
    stripes = np.broadcast_to(np.arange(20) % 5 == 0, (4, 20)).astype(float)
    np.testing.assert_allclose(limits_images.coarser(stripes, (1, 5)), 0.2)
    np.testing.assert_array_equal(limits_images.coarser(stripes, (4, 1)), stripes)


def test_real_subjects_are_those_that_do_not_test(tiny_encoder, monkeypatch):
    cohort = with_unreadable(virtual_cohort(8, resolution=8), ("virtual-007", "virtual-008"))
    cohort = dataclasses.replace(cohort, contrasts=("T1w", "FLAIR"))
    monkeypatch.setattr(show_limits, "load_cohort", lambda data: cohort)
    monkeypatch.setattr(show_limits, "REACH", 1)  # at 8 mm, no voxel is deeper than 8
    rows, count = show_limits.measure_subjects("virtual", tiny_encoder)
    assert count == 6
    names = ["T1w:inverted", "FLAIR", "T1w of another subject"]
    assert [row["image"] for row in rows] == 2 * names
    assert rows[0]["intensities"] == pytest.approx(-1)
    assert all(row["features_sd"] > 0 for row in rows)


def test_a_head_is_compared_with_its_brain(tiny_encoder, tmp_path, rng):
    x, y, z = np.indices((30, 16, 30))
    brain = (np.hypot(x - 15, z - 15) < 12) & (abs(y - 8) < 7)
    t1 = np.where(brain, 1 + rng.random(brain.shape), 0.2)
    files = {"T1": t1, "FLAIR": 3 - t1[:, :, ::-1], "LABELS": brain.astype(np.int16)}
    for name, data in files.items():
        affine = np.eye(4)
        if name == "FLAIR":  # the same place, stored from top to bottom
            affine[2, 2:] = -1, 29
        nibabel.save(nibabel.Nifti1Image(data, affine), tmp_path / f"{name}.nii.gz")
    paths = [tmp_path / f"{name}.nii.gz" for name in files]
    head, flair_head, inverted, _ = show_limits.measure_head(*paths, tiny_encoder)
    assert head["image"] == "T1 head"
    assert head["intensities"] == flair_head["intensities"] == pytest.approx(1)
    assert inverted["intensities"] == pytest.approx(-1, abs=1e-5)
    assert head["features_near"] < head["features_far"]
