"""Pictures of scores."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from cifl_tf.figures.panels import _grid


def score_figure(scores: Mapping[str, Mapping[str, float]]) -> Figure:
    """A dot for every subject and score, joined by a line where they are of one subject.

    Args:
        scores: at most 1, by subject and name, as ``evaluation.report.subject_scores`` gives them.
    """
    names = list(dict.fromkeys(name for found in scores.values() for name in found))
    figure, ((axes,),) = _grid(1, 1, 0.6)
    figure.set_size_inches(1.5 + 1.6 * len(names), 3)
    for found in scores.values():
        known = [index for index, name in enumerate(names) if name in found]
        values = [found[names[index]] for index in known]
        axes.plot(known, values, "o-", color="tab:blue", alpha=0.5, linewidth=0.8, markersize=4)
    axes.set_xticks(range(len(names)), names, fontsize="small")
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(min(0, *axes.get_ylim()), 1)
    axes.grid(axis="y", linewidth=0.4)
    axes.set_title("every line is a subject", fontsize="small")
    return figure
