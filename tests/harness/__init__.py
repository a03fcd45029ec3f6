"""What every test that runs or checks a program leans on: markers, truth by torch, wants, transformations.

Nothing here imports torch: programs run in processes forked from one warm helper (`truth.py`).
"""
