# Every target sets up what it needs in .venv; PYTHON chooses the interpreter (3.11 to 3.13).
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-beam lint docs notebooks benchmark clean

demo: .venv/installed
	$(BIN)/cifl demo --out demo

test: lint
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# In an environment of its own, as Apache Beam needs other versions of some packages.
test-beam: .venv-beam/installed
	.venv-beam/bin/python -m pytest tests/integration/beam tests/unit/test_docstring_examples.py -k beam

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Into site/; a warning fails the build.
docs: .venv/docs-installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# From their sources, notebooks/*.py, which are what is edited.
notebooks: .venv/installed
	$(BIN)/jupytext --to ipynb notebooks/*.py
	$(BIN)/jupyter-execute --inplace notebooks/*.ipynb

benchmark: .venv/installed
	$(BIN)/python benchmarks/speed.py

.venv/installed: setup.py constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else "cifl_tf needs Python 3.11 to 3.13, but this is %d.%d; say make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	touch $@

.venv/docs-installed: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	touch $@

.venv-beam/installed: setup.py constraints-beam.txt
	$(PYTHON) -m venv .venv-beam
	.venv-beam/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-beam.txt -e ".[beam]" pytest pytest-xdist
	touch $@

clean:
	rm -rf .venv .venv-beam demo site build dist *.egg-info
