"""Comparisons of the resize core with its peers, in one run on the same files and cores: `make bench`."""
