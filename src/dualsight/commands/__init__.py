"""The commands of ``dualsight``: each is a function, whose parameters are its options (``cli`` names them all).

Heavy modules are imported inside, so that ``--help`` answers at once and a missing extra is named only where it is
needed.
"""
