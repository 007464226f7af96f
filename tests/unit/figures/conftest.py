import pytest


@pytest.fixture
def drawn(monkeypatch):
    """The panels that show something, row by row, of the figure that a function saves."""

    def run(module, function, *arguments):
        figures = []
        monkeypatch.setattr(module, "save_figure", lambda figure, *_: figures.append(figure))
        function(*arguments)
        figures[0].canvas.draw()
        return [panel for panel in figures[0].axes if panel.images]

    return run
