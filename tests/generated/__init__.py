"""Programs that nobody wrote, and what autograd says of each edge that the analysis draws.

`instrument.py` and `tracer.py` take down what each expression of a running program was to autograd,
`edges.py` compares the static graph with it, `judging.py` what is claimed of each parameter. `grammar.py` and
what it imports write the programs; `long_run.py` is the command for ten thousand of them.
"""
