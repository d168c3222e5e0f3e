"""Training: pretraining, fine-tuning, resuming. How good the outcome is, is for evaluation."""
