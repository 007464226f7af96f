"""Hold back what TensorFlow writes to standard error when it is imported.

Its first messages come before it reads its log level, so no variable of the environment stops them.
"""

import contextlib
import importlib.abc
import importlib.util
import os
import sys
import tempfile


@contextlib.contextmanager
def silent_stderr():
    """Hold back what C++ writes to standard error; give it out again if the block raises."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


class QuietTensorFlow(importlib.abc.MetaPathFinder):
    """Finds TensorFlow where it is, once, and lets it run in ``silent_stderr``."""

    def find_spec(self, fullname, path=None, target=None):
        """The specification of TensorFlow; None for all other names."""
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_quietly(module):
            with silent_stderr():
                run(module)

        spec.loader.exec_module = run_quietly  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Let the next import of TensorFlow be quiet."""
    if not any(isinstance(finder, QuietTensorFlow) for finder in sys.meta_path):
        sys.meta_path.insert(0, QuietTensorFlow())
