"""Cohort: who is who, what may be known when, and who is held out. What the items contain is for the features."""
