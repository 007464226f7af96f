"""Model files, which are data, and networks that know their preprocessing."""
