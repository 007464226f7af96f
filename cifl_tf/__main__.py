"""``python -m cifl_tf`` is the ``cifl`` command."""

from cifl_tf.cli import main

main()
