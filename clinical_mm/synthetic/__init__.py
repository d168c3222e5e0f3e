"""A made-up trimodal cohort, written as the real files that a hospital would deliver, with the truth beside it.

`patients` draws who they are and what is true of them; `notes`, `images`, `genomics` and `tables` write their
files, `cohort` whole deliveries with a study file that fits them, and `truth` is what a test may ask afterwards:
what was planted where, and what has to become of every record. Nothing here reads a store or trains a model.
"""
