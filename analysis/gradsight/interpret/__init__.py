"""The abstract interpreter: a function's lines -> graph, events, summary.

One activation interprets one function for one kind of arguments. It never raises for what user code says:
what it cannot follow becomes Unknown with its reason.
"""
