"""The partitions: deliveries as they arrive, and the tasks of the study."""

import dagster as dg

from assets.resources import declared_study

DELIVERIES_NAME = "deliveries"
DELIVERIES = dg.DynamicPartitionsDefinition(name=DELIVERIES_NAME)
"""One a delivery: added by the sensor when it is complete."""

TASKS = dg.StaticPartitionsDefinition(list(declared_study().tasks))
"""One a task of the study file."""
