"""Gradsight's analysis: text -> findings -> fixes. A library: no input or output, no protocol, no torch."""
