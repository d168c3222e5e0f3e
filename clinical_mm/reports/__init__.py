"""Reports: what a clinician and a data scientist read. Nothing is computed here that a page does not show."""
