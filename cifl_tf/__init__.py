from cifl_tf import _compat
