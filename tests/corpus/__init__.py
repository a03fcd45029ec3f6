"""The mutation corpus: good training scripts (fixtures/corpus), each mistake put in at every place where it
fits.

`sites.py` runs a script and takes down what stands where, `mutations.py` puts the mistakes in,
`verdicts.py` lets torch say which of them are mistakes and how loud the analysis should be about them,
`list_mutants.py` writes all that to a file.
"""
