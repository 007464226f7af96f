"""Packaging of cifl_tf; tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (HERE / "cifl_tf" / "_version.py").read_text(), re.MULTILINE
).group(1)

NOTEBOOKS = ["jupytext", "nbclient", "ipykernel"]
TEST = [
    "pytest>=8",
    "pytest-xdist>=3.7",
    "ruff>=0.9",
    "mypy>=1.11",
    "import-linter>=2",
    "SimpleITK>=2.3",
    "bids-validator-deno>=3",
    *NOTEBOOKS,
]

DOCS = [
    "mkdocs>=1.6,<2",
    "mkdocs-material>=9.6",
    "mkdocstrings[python]>=0.30",
    "mkdocs-jupyter>=0.25",
]

setup(
    name="cifl_tf",
    version=VERSION,
    description="Contrast-invariant feature learning (CIFL) for medical images, in TensorFlow",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["cifl_tf", "cifl_tf.*"]),
    package_data={
        "cifl_tf": ["py.typed", "**/*.pyi", "**/*.jinja", "weights/SHA256SUMS", "weights/*/*"],
    },
    install_requires=[
        "tensorflow>=2.16,<2.22; python_version < '3.12'",
        "tf-keras>=2.16,<2.22; python_version < '3.12'",
        # Before 2.19, tf-keras cannot set a seed on Python 3.12 and later.
        "tensorflow>=2.19,<2.22; python_version >= '3.12'",
        "tf-keras>=2.19,<2.22; python_version >= '3.12'",
        # Later releases of both are PyTorch only, and voxelmorph 0.2 does not exclude them.
        "neurite==0.2",
        "voxelmorph==0.2",
        "filelock>=4",
        "jinja2>=3",
        "lazy-loader>=0.5",
        # neurite and voxelmorph 0.2 import these without all of them asking for it.
        "h5py",
        "matplotlib",
        # 1.15: exact Wilcoxon with ties; 2 drops scipy.ndimage.interpolation (neurite 0.2).
        "scipy>=1.15,<2",
        "nibabel>=5",
        "nilearn>=0.11",
        "numpy>=1.26",
        "pandas>=2",
        "PyYAML>=6",
        "tensorboard",
        "tqdm",
        "typer>=0.19",
    ],
    extras_require={
        "test": TEST,
        "notebooks": NOTEBOOKS,
        "docs": DOCS,
        "gpu": ["tensorflow[and-cuda]"],
        "syn": ["antspyx>=0.5"],
        "beam": ["apache-beam>=2.70"],
    },
    entry_points={"console_scripts": ["cifl = cifl_tf.cli.main:main"]},
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
)
