"""What a training run leaves: records, its folder with lock and checkpoints, pictures, the report."""
