"""The Dagster code location: definitions, jobs, schedules, sensors and resources around the assets.

What a job runs is chosen here; what an asset does is for `assets`.
"""
