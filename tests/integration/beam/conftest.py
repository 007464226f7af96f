"""Tests for an environment with Apache Beam, which ``make test-beam`` makes."""

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("apache_beam") else ["test_*.py"]
