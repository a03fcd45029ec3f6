"""What the analysis says of public packages, every finding judged by reading the code.

Public code is fetched into `.cache/`, only ever read, and never a part of this repository.
"""
