"""Speed and memory against a stated alternative, as ratios in one run. Nothing here is imported by the pipeline."""
