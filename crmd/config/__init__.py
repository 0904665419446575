"""What may be set, where it is found and what is wrong with it; produces the data of `crmd.engine.settings`.

It may touch the engine's plain data and `crmd.formatting`, and knows nothing of the CRM, HTTP or the command line.
"""
