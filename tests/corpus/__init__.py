"""The mutation corpus: good training programs, each mistake put in at every place where it fits.

The programs are those of fixtures/corpus, and modules and losses of public packages (`packages.py`) with
drivers around them (`drivers.py`). `sites.py` runs a program and takes down what stands where.
`mutations.py`, `protocol_mutations.py`, `loss_mutations.py`, `catalogue_mutations.py`,
`custom_mutations.py` and `in_place_mutations.py` put the mistakes in, `verdicts.py` lets torch say which of
them are mistakes and how loud the analysis should be about them, `recall.py` asks the analysis, and
`measure.py` is the command that does all of it and writes it down.
"""
