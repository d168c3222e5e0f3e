"""Model: encoders, fusion and heads as one network. How it is fitted is for training."""
