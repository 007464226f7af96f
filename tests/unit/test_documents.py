"""What README and documentation name exists: files, commands, options, and Python names."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest
import typer.main

import cifl_tf
from cifl_tf.cli.default_command import DefaultGroup
from cifl_tf.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)\s#]+)")
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page, *languages):
    found = re.findall(r"```(\w+)\n(.*?)```", page.read_text(), re.DOTALL)
    return [code for language, code in found if language in languages]


def options_of(words):
    """Options of the command that the words begin with."""
    command = typer.main.get_command(app)
    for word in words:
        if word not in getattr(command, "commands", {}):
            break
        command = command.commands[word]
    if isinstance(command, DefaultGroup) and not words[1].startswith("--"):
        command = command.commands[command.default]  # which may be left out
    assert not hasattr(command, "commands") or words[0].startswith("--"), f"no command in {words}"
    return {name for given in command.params for name in (*given.opts, *given.secondary_opts)}


@every_page
def test_links_lead_to_files(page):
    missing = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert not missing


@every_page
def test_commands_have_these_options(page):
    lines = "".join(blocks(page, "sh", "bash")).replace("\\\n", " ").splitlines()
    for line in lines:
        program, *words = shlex.split(line, comments=True) or [""]
        if program != "cifl":
            continue
        # Of a value in quotation marks, nothing is an option of the command.
        options = [word for word in words if word.startswith("--") and " " not in word]
        given = {option.split("=")[0] for option in options}
        assert given <= options_of(words) | {"--help", "--install-completion"}, line


@every_page
def test_python_names_exist(page):
    for code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "cifl":
                assert hasattr(cifl_tf, node.attr), f"cifl.{node.attr}"
            if isinstance(node, ast.ImportFrom) and node.module.startswith("cifl_tf"):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert alias.name in dir(module), f"{node.module}.{alias.name}"


def test_stack_page_lists_symbols_of_other_packages():
    modules = [path for path in (ROOT / "cifl_tf").rglob("*.py") if path.name != "_compat.py"]
    symbol = re.compile(r"\b(?:ne|vxm)\.\w+\.\w+")
    used = {name for path in modules for name in symbol.findall(path.read_text())}
    assert set(symbol.findall((ROOT / "docs" / "stack.md").read_text())) == used


def test_citation_names_this_version():
    assert f"\nversion: {cifl_tf.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_navigation_has_every_page():
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES[2:]]
    assert [page for page in pages if f": {page}\n" not in navigation] == []
