"""The study file as one tree of frozen pydantic models: every option, its unit, its default.

`sources` declares what arrives, `linkage` how records name their patient, `tasks` what to learn from it, `root` the
whole, and `file` reads it from YAML with errors that name the line. Nothing here reads patient data.
"""
