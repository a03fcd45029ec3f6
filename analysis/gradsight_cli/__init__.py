"""The command line: reads files, asks the analysis, prints.

It reaches the server and the probe only when their verb is called, and loads no terminal library unless it
prints colours to a terminal. Its own records are named tuples, which load faster than dataclasses:
a small check is mostly the loading of modules.
"""

__version__ = "0.1.0"
