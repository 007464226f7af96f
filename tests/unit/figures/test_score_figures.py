import numpy as np

from cifl_tf.figures.scores import score_figure


def test_every_subject_is_a_line_through_the_scores_that_it_has():
    scores = {"a": {"Dice, T1w": 0.5, "Dice, FLAIR": -0.25}, "b": {"Dice, FLAIR": 0.75}}
    (axes,) = score_figure(scores).axes
    points = [line.get_xydata().tolist() for line in axes.lines]
    assert points == [[[0, 0.5], [1, -0.25]], [[1, 0.75]]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["Dice, T1w", "Dice, FLAIR"]
    low, high = axes.get_ylim()
    assert low < -0.25
    assert high == 1


def test_scores_of_one_contrast_have_room():
    (axes,) = score_figure({"a": {"Dice, T1w": 0.5}}).axes
    np.testing.assert_allclose(axes.get_xlim(), [-0.5, 0.5])
