"""Explain: attribution, modality contribution, and how far to believe them. Pages are for the reports."""
