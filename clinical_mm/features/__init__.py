"""Features: what the model reads, cached by content. Nothing here learns but statistics of training patients."""
