"""Evaluation: metrics with intervals, calibration, baselines, comparison, scoring."""
