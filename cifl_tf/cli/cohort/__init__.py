"""``cifl cohort``: an analysis of every scan of a BIDS dataset, as a BIDS App."""
