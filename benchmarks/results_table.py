"""The table that a benchmark ends with, for people and for ``scripts/write_tables.py``."""

from cifl_tf.evaluation.summary import to_markdown


def add_json_option(parser, rows="the table"):
    """Add the option whose value ``show_table`` takes."""
    parser.add_argument("--json", help=f"file of {rows}, for scripts/write_tables.py")


def show_table(table, file=None, saved=None):
    """Print a table as Markdown, and write its rows to a JSON file where one is given.

    Args:
        table: data frame of text.
        file: path.
        saved: the rows to write, where these are not all.
    """
    print(to_markdown(table), flush=True)
    if file:
        (table if saved is None else saved).to_json(file, orient="records", indent=2)
