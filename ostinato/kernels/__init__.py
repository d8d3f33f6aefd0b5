"""One token of a language model in one compiled function; needs numba, the extra `fast`.

Import the modules inside of functions only: the core of Ostinato runs without numba.
"""
