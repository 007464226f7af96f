from pathlib import Path

import jupytext
import nbformat
import pytest
from jupyter_client import KernelManager
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.py"))
# As written, but for the length of training.
FEW_STEPS = {
    "features": {"steps_per_epoch=20, epochs=10": "steps_per_epoch=1, epochs=2"},
    "segmentation_and_registration": {
        "virtual_cohort(8)": "virtual_cohort(8, resolution=8)",
        "STEPS, NUM_SLICES = 200, 3": "STEPS, NUM_SLICES = 2, 1",
        "scales=(4, 2, 1), steps=(20, 20, 20)": "scales=(2,), steps=(1,)",
    },
}


def cells(notebook):
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_its_source_and_ran_in_order(source):
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert cells(notebook) == cells(jupytext.read(source))
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    kinds = {output.output_type for output in outputs(notebook)}
    assert "display_data" in kinds or "execute_result" in kinds
    assert "error" not in kinds


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """A kernel in which one notebook runs after the other: TensorFlow is imported once."""
    kernel = KernelManager()
    kernel.start_kernel(cwd=tmp_path_factory.mktemp("notebooks"))
    yield kernel
    kernel.shutdown_kernel(now=True)


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(source, kernel):
    text = source.read_text()
    for long, short in FEW_STEPS[source.stem].items():
        assert long in text
        text = text.replace(long, short)
    notebook = jupytext.reads(text, fmt="py:percent")
    # Without the names of the notebook before.
    NotebookClient(jupytext.reads("%reset -f", fmt="py:percent"), km=kernel).execute()
    NotebookClient(notebook, km=kernel, timeout=600).execute()  # raises what a cell does
    pictures = [output for output in outputs(notebook) if "image/png" in output.get("data", {})]
    assert len(pictures) >= 2
