"""One token of a language model in one compiled function; needs numba, the extra `fast`.

Import the modules inside of functions only: the core of Ostinato runs without numba.
`ostinato.kernels.cache` keeps the machine code in __pycache__, or in the user's cache folder if
that cannot be written.
"""
