"""Hooks of MkDocs: reference pages from the code, and files of the repository beside ``docs``.

A link in a page is that of the repository, so that it also works where the Markdown is read there.
"""

import ast
import html
import posixpath
import re
from pathlib import Path

import typer.main
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File
from typer.cli import get_docs_for_click

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cifl_tf"
# Beside docs/, under the same names in the site.
SHARED = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "benchmarks/results/**/*.png",
    "benchmarks/results/*/*.md",
    "cifl_tf/weights/*/*.png",
    "cifl_tf/weights/*/README.md",
    "notebooks/*.ipynb",
)
PACKAGES = {
    "features": "Features",
    "segmentation": "Segmentation",
    "registration": "Registration",
    "stripping": "Stripping",
    "tissues": "Tissues",
    "datasets": "Datasets",
    "synthesis": "Synthesis",
    "augmentation": "Augmentation",
    "images": "Images",
    "metrics": "Metrics",
    "evaluation": "Evaluation",
    "figures": "Figures",
    "export": "Export",
    "beam": "Apache Beam",
}
LINK = re.compile(r"(\]\()(?![a-z]+:|#|/)([^)\s#]+)")


@event_priority(100)  # before the plugin of notebooks looks for them
def on_files(files, config):
    """Add shared files, the command reference and the API reference."""
    for pattern in SHARED:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    files.append(File.generated(config, "reference/commands.md", content=command_reference()))
    for name, content in api_reference().items():
        files.append(File.generated(config, f"reference/python/{name}.md", content=content))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turn links of the repository into links of the site."""
    site = page.file.src_uri
    beside_docs = page.file.src_dir == str(ROOT)
    folder = posixpath.dirname(site if beside_docs else f"docs/{site}")

    def relocated(match):
        target = posixpath.normpath(posixpath.join(folder, match[2])).removeprefix("docs/")
        return match[1] + posixpath.relpath(target, posixpath.dirname(site) or ".")

    return LINK.sub(relocated, markdown)


def on_page_content(content, page, config, files):
    """Keep a mean and its SD on one line."""
    return content.replace(" ± ", "&nbsp;±&nbsp;")


def command_reference() -> str:
    """Markdown of every command and option, from the program itself."""
    from cifl_tf.cli.main import app

    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="cifl")
    known = dict(summaries(command, "cifl"))
    lines, current = [], ""
    for line in text.splitlines():
        if heading := re.fullmatch(r"#+ `(.+)`", line):
            current = heading[1]
        elif item := re.fullmatch(r"\* `(.+?)`: (.*)", line):
            # Typer cuts summaries, and escapes nothing: <name> in running text would be HTML.
            path = f"{current} {item[1]}"
            link = f"[`{path}`](#{path.replace(' ', '-')})" if path in known else f"`{item[1]}`"
            line = f"* {link}: {html.escape(known.get(path, item[2]), quote=False)}"
        lines.append(line)
    return "\n".join(lines).replace("# `cifl`", "# Commands", 1)


def summaries(group, path: str):
    """Path and first paragraph of every command below a group, as ("cifl segment train", ...)."""
    for name, command in getattr(group, "commands", {}).items():
        below = f"{path} {name}"
        yield below, " ".join((command.help or "").split("\n\n")[0].split())
        yield from summaries(command, below)


def public_names(stub: Path) -> dict[str, str]:
    """Public names of a package and the module of each, as in its ``__init__.pyi``."""
    found = {}
    for node in ast.parse(stub.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {alias.name: node.module for alias in node.names}
    return found


def api_reference() -> dict[str, str]:
    """A page for each package: its names in ``cifl_tf``, then those in the package only."""
    top = public_names(PACKAGE / "__init__.pyi")
    pages = {}
    for package, title in PACKAGES.items():
        stub = PACKAGE / package / "__init__.pyi"
        own = public_names(stub) if stub.exists() else {}
        paths = [f"cifl_tf.{n}" for n, module in top.items() if module.split(".")[0] == package]
        paths += [f"cifl_tf.{package}.{name}" for name in own if name not in top]
        if paths:
            entries = "".join(f"\n::: {path}\n" for path in sorted(paths, key=str.lower))
            pages[package] = f"# {title}\n{entries}"
    unknown = {module.split(".")[0] for module in top.values()} - set(PACKAGES)
    if unknown:
        raise ValueError(f"public names come from {sorted(unknown)}; add a title to PACKAGES")
    return pages
