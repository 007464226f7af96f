"""``python -m cifl_tf`` is the ``cifl`` command."""

from cifl_tf.cli.main import main

main()
