"""Dagster assets and their checks: thin, one module a stage, named after the library's.

An asset resolves its inputs, calls the library once and attaches what an operator wants to see. Jobs, schedules and
sensors are for `pipelines`; anything clinical or statistical is for `clinical_mm`.
"""
