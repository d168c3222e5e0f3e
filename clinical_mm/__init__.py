"""Clinical multimodal pipeline: the library.

Everything that is clinical or statistical belongs here; nothing in it knows Dagster. Importing the package alone
is light: torch, transformers, monai and captum are imported by the modules that need them.
"""

__version__ = "0.1.0"
