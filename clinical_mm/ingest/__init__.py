"""Ingest: deliveries in, canonical tables out.

Who a record belongs to, and whether it may be used, is for the cohort.
"""
