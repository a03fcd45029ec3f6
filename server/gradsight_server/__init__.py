"""Gradsight's server: the rim between the analysis and those who ask. Importing the package loads nothing."""
